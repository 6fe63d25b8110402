// A client of Node: an agent that keeps its connection, many streams of HTTP/2, and large bodies that are refused.
//
// Given the port of a worker; prints what it was answered, as JSON.

import http from 'node:http';
import http2 from 'node:http2';

const port = Number(process.argv[2]);
const large = Buffer.alloc(4 << 20, 'a');

async function all(stream) {
  const parts = [];
  for await (const part of stream) {
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function post(agent, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = http.request({ port, host: '127.0.0.1', path, method: 'POST', agent, headers });
    request.on('error', reject);
    request.on('socket', (socket) => sockets.add(socket));
    request.on('response', async (response) => resolve({ status: response.statusCode, body: await all(response) }));
    request.end(body);
  });
}

async function stream(session, path, body) {
  const request = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' });
  let status;
  request.on('response', (headers) => { status = headers[':status']; });
  request.end(body);
  const text = await all(request);
  return { status, body: text };
}

const sockets = new Set();
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const kept = [];
for (let n = 0; n < 20; n += 1) {
  kept.push(JSON.parse((await post(agent, '/echo', JSON.stringify({ n }))).body).n);
}
const used = sockets.size;
const refused = {};
for (const path of ['/echo', '/locked', '/nowhere']) {
  const { status, body } = await post(agent, path, large);
  refused[path] = [status, JSON.parse(body).status];
}
agent.destroy();

// Node itself gives up a stream when more than 10 MB wait to be sent, as after several refusals.
const session = http2.connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 100 });
const bodies = Array.from({ length: 50 }, (_, n) => JSON.stringify({ n }));
const echoed = await Promise.all(bodies.map((body) => stream(session, '/echo', body)));
const streams = echoed.map(({ body }) => JSON.parse(body).n);
const reset = {};
for (const path of ['/echo', '/locked', '/nowhere']) {
  const { status, body } = await stream(session, path, large);
  reset[path] = [status, JSON.parse(body).status];
}
// The session has outlived them.
const after = JSON.parse((await stream(session, '/echo', '{"n":-1}')).body).n;
session.close();
console.log(JSON.stringify({ kept, used, refused, streams, reset, after }));
