//! What `iperf3 -c` talks to. Any number of tests at a time.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{
    COOKIE, CREATE_STREAMS, DISPLAY_RESULTS, EXCHANGE_RESULTS, Gauge, IPERF_DONE, PARAM_EXCHANGE, Plan,
    Stream, TEST_END, TEST_RUNNING, TEST_START, invalid, read_json, receive, results, send, write_json,
};
use crate::apps::{Connection, End, Left, Service, Stop, limits};

type Cookie = [u8; COOKIE];

/// The server.
#[derive(Debug, Default)]
pub(crate) struct Perf {
    /// Tests that wait for their data connections.
    waiting: Mutex<HashMap<Cookie, mpsc::Sender<Stream>>>,
}

/// Takes the test off the list, however it goes on.
struct Registered<'a> {
    perf: &'a Perf,
    cookie: Cookie,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.perf.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.cookie);
    }
}

impl Service for Perf {
    /// A test does not stand still: its streams belong together.
    async fn serve<S: Connection>(&self, mut stream: S, _: Left, mut stop: Stop) -> io::Result<End<S>> {
        let mut cookie = [0; COOKIE];
        tokio::time::timeout(limits::HEADER_TIME, stream.read_exact(&mut cookie)).await??;
        let test = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&cookie).cloned();
        if let Some(test) = test {
            let ended = || invalid("its test has all of its streams already");
            return test.try_send(Box::new(stream)).map(|()| End::Over).map_err(|_| ended());
        }
        tokio::select! {
            result = self.test(stream, cookie) => result.map(|()| End::Over),
            () = stop.begun() => Ok(End::Over),
        }
    }
}

impl Perf {
    async fn test<S: Connection>(&self, mut control: S, cookie: Cookie) -> io::Result<()> {
        control.write_u8(PARAM_EXCHANGE).await?;
        let plan = Plan::from_json(&read_json(&mut control).await?)?;
        let streams = self.streams(&mut control, cookie, &plan).await?;
        control.write_all(&[TEST_START]).await?;
        control.write_all(&[TEST_RUNNING]).await?;
        let begun = Instant::now();
        let mut moving = JoinSet::new();
        let mut gauges = Vec::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let gauge = Arc::new(Gauge::default());
            gauges.push(Arc::clone(&gauge));
            // Where both send, the client's streams come first.
            let sends = if plan.both { number >= plan.parallel } else { plan.reverse };
            if sends {
                moving.spawn(send(stream, gauge, plan));
            } else {
                moving.spawn(receive(stream, gauge, plan));
            }
        }
        let end = control.read_u8().await?;
        let seconds = begun.elapsed().as_secs_f64();
        gauges.iter().for_each(|gauge| gauge.is_over.store(true, std::sync::atomic::Ordering::Relaxed));
        if end != TEST_END {
            return Ok(());
        }
        control.write_u8(EXCHANGE_RESULTS).await?;
        read_json(&mut control).await?;
        write_json(&mut control, &results(&gauges, seconds, plan.reverse || plan.both)).await?;
        control.write_u8(DISPLAY_RESULTS).await?;
        let done = control.read_u8().await;
        // What the client has not read by now it never will.
        moving.abort_all();
        while moving.join_next().await.is_some() {}
        match done {
            Ok(IPERF_DONE) => control.shutdown().await,
            Ok(_) => Err(invalid("the client did not end its test in order")),
            Err(error) => Err(error),
        }
    }

    /// The data connections of a test.
    async fn streams<S: Connection>(
        &self,
        control: &mut S,
        cookie: Cookie,
        plan: &Plan,
    ) -> io::Result<Vec<Stream>> {
        let count = plan.parallel * if plan.both { 2 } else { 1 };
        let (found, mut finding) = mpsc::channel(count);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(cookie, found);
        let registered = Registered { perf: self, cookie };
        control.write_u8(CREATE_STREAMS).await?;
        let mut streams: Vec<Stream> = Vec::new();
        let all = async {
            while streams.len() < count
                && let Some(stream) = finding.recv().await
            {
                streams.push(stream);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await?;
        drop(registered);
        Ok(streams)
    }
}
