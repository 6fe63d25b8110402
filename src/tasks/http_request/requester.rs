//! Handles an event: makes its request and those that follow from it, and data of the answers.
//!
//! One attempt makes several requests where an answer says so: that the token no longer holds, that what is asked for is
//! elsewhere, or that there is a further page. Each of them is looked at by the guard, waits for the rate, is timed, and is
//! counted by itself; the span tells of the last one.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Request, StatusCode, Url};

use super::{
    auth::Credentials,
    circuit::Circuits,
    durations::{Durations, Timing},
    failure::Exchange,
    guard::Guard,
    outgoing::Outgoing,
    pagination::Pagination,
    redirects::{Redirects, is_within_host},
    response::{Answer, Reading},
    span,
    success::Statuses,
};
use crate::{
    event::Event,
    services::limiter::Pace,
    task::{Output, Processor, TaskError},
};

/// Makes requests of events, and data of responses.
pub(super) struct Requester {
    pub(super) outgoing: Outgoing,
    pub(super) credentials: Option<Credentials>,
    /// `None` for requests that must not be made twice.
    pub(super) redirects: Option<Redirects>,
    pub(super) guard: Option<Arc<Guard>>,
    pub(super) pace: Option<Pace>,
    pub(super) circuits: Option<Circuits>,
    pub(super) pagination: Option<Pagination>,
    pub(super) success: Statuses,
    pub(super) reading: Reading,
    pub(super) durations: Arc<Durations>,
}

/// What came of a request.
enum Sent {
    Answered(Answer),
    /// Another request is to be made, to there.
    Elsewhere {
        url: Url,
        is_within: bool,
    },
    /// The same one is to be made with another token. The error is what is counted.
    Unauthorized {
        url: Url,
        error: TaskError,
    },
}

/// How many requests an attempt has made for one answer so far, and why.
#[derive(Clone, Copy, Default)]
struct Course {
    redirects: u32,
    /// Whether another host has been asked, which must not learn of headers and credentials.
    is_abroad: bool,
    /// Whether its token was asked for, and not renewed yet.
    is_renewable: bool,
}

#[async_trait]
impl Processor for Requester {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let request = self.outgoing.request(event)?;
        let Some(circuits) = &self.circuits else { return self.answer(request, event, output).await };
        let passage = circuits.admit(request.url())?;
        let result = self.answer(request, event, output).await;
        passage.end(result.as_ref().err());
        result
    }
}

impl Requester {
    async fn answer(&self, request: Request, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        if let Some(pagination) = &self.pagination {
            return Box::pin(self.pages(pagination, request, event, output)).await;
        }
        let answer = self.call(request, event, &mut { self.reading.limit }, output).await?;
        output.emit(event.with_data(answer.into_data()));
        Ok(())
    }

    async fn pages(
        &self,
        pagination: &Pagination,
        mut request: Request,
        event: &Event,
        output: &mut Output,
    ) -> Result<(), TaskError> {
        let mut room = self.reading.limit;
        let mut pages = pagination.begin(&mut request);
        while let Some(url) = pages.take(self.call(request, event, &mut room, output).await?)? {
            request = self.outgoing.again(event, url, false)?;
        }
        let data = pages.into_data();
        if let (1, false) = (data.len(), pagination.is_by_item()) {
            data.into_iter().for_each(|data| output.emit(event.with_data(data)));
        } else {
            data.into_iter().enumerate().for_each(|(n, data)| output.emit(event.derive(n, data)));
        }
        Ok(())
    }

    /// Gets one answer: goes where it is led to, and once more with a new token.
    async fn call(
        &self,
        mut request: Request,
        event: &Event,
        room: &mut usize,
        output: &mut Output,
    ) -> Result<Answer, TaskError> {
        let (mut course, mut stale, mut is_renewed) = (Course::default(), None, false);
        loop {
            if let Some(guard) = &self.guard {
                guard.check(request.url()).map_err(|why| Exchange::of(&request).refused(why))?;
            }
            let token = match &self.credentials {
                Some(credentials) if !course.is_abroad => {
                    credentials.authorize(&mut request, event, stale.take()).await?
                }
                _ => None,
            };
            course.is_renewable = token.is_some() && !is_renewed;
            if let Some(pace) = &self.pace {
                pace.wait(event).await?;
            }
            let url = match self.send(request, event, course, room, output).await? {
                Sent::Answered(answer) => return Ok(answer),
                Sent::Elsewhere { url, is_within } => {
                    course.redirects += 1;
                    course.is_abroad |= !is_within;
                    url
                }
                Sent::Unauthorized { url, .. } => {
                    (stale, is_renewed) = (token, true);
                    url
                }
            };
            request = self.outgoing.again(event, url, course.is_abroad)?;
        }
    }

    /// Makes one request.
    async fn send(
        &self,
        request: Request,
        event: &Event,
        course: Course,
        room: &mut usize,
        output: &mut Output,
    ) -> Result<Sent, TaskError> {
        if let Some(span) = output.span() {
            span.clear();
            span::describe_request(&request, span);
        }
        let exchange = Exchange::of(&request);
        let mut timing = self.durations.begin(&request, event.trace);
        let sent = self.exchange(request, &exchange, &mut timing, course, room, output).await;
        timing.end(match &sent {
            Err(error) | Ok(Sent::Unauthorized { error, .. }) => Some(error.error_type()),
            Ok(_) => None,
        });
        sent
    }

    async fn exchange(
        &self,
        request: Request,
        exchange: &Exchange,
        timing: &mut Timing<'_>,
        course: Course,
        room: &mut usize,
        output: &mut Output,
    ) -> Result<Sent, TaskError> {
        let response = self.outgoing.client.execute(request).await.map_err(|error| exchange.broken(error))?;
        let status = response.status();
        timing.status(status);
        if let Some(span) = output.span() {
            span::describe_response(&response, span);
        }
        if self.success.has(status) {
            return self.reading.read(response, exchange, room).await.map(Sent::Answered);
        }
        let error = exchange.unsuccessful(&response);
        if status == StatusCode::UNAUTHORIZED && course.is_renewable {
            return Ok(Sent::Unauthorized { url: response.url().clone(), error });
        }
        match self.redirects.and_then(|redirects| redirects.target(&response, course.redirects)) {
            Some(url) => Ok(Sent::Elsewhere { is_within: is_within_host(response.url(), &url), url }),
            None => Err(error),
        }
    }
}
