// A server of Node, for flows to call: JSON, gzip, chunks, redirects and cookies. Given a certificate, its key and the
// authority of clients it speaks HTTP/2 over TLS, with those who show a certificate of that authority.
//
// Says on which port it listens, and then each request that it gets, a line each.

import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import zlib from 'node:zlib';

const [cert, key, clients] = process.argv.slice(2).map((path) => fs.readFileSync(path));

function answer(response, value, status = 200, headers = {}) {
  const body = Buffer.from(JSON.stringify(value));
  const zipped = headers['content-encoding'] === 'gzip' ? zlib.gzipSync(body) : body;
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(zipped);
}

function chunks(response) {
  response.writeHead(200, { 'content-type': 'application/json' });
  for (const part of ['{"in":', '["', 'many'.repeat(1000), '"']) {
    response.write(part);
  }
  response.end(']}');
}

async function serve(request, response) {
  console.log('asked', request.method, request.url);
  let body = '';
  for await (const part of request) {
    body += part;
  }
  const shown = request.socket.getPeerCertificate?.()?.subject?.CN;
  switch (request.url) {
    case '/json': return answer(response, { version: `HTTP/${request.httpVersion}`, ...(shown && { client: shown }) });
    case '/gzip': return answer(response, { zipped: 'zip'.repeat(1000) }, 200, { 'content-encoding': 'gzip' });
    case '/chunks': return chunks(response);
    case '/redirect': return answer(response, 'elsewhere', 302, { location: '/json' });
    case '/cookie': {
      const cookie = request.headers.cookie ?? null;
      return answer(response, { cookie }, 200, { 'set-cookie': 'session=m4rker' });
    }
    case '/echo': return answer(response, { method: request.method, body: JSON.parse(body) });
    default: return answer(response, 'nothing here', 404);
  }
}

const server = cert
  ? http2.createSecureServer({ cert, key, ca: clients, requestCert: true, rejectUnauthorized: true }, serve)
  : http.createServer(serve);
server.listen(0, '127.0.0.1', () => console.log('listening', server.address().port));
