//! Hands connections on: bytes, half closes, and back pressure by the windows of both sides.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carried::Carried;
use super::connect::{Connector, Target};
use super::{Connection, End, Left, Service, Stop, limits};

/// Connects each connection with one to a target.
#[derive(Debug)]
pub(crate) struct Forward<C> {
    /// Where to.
    pub(crate) target: Target,
    /// How to get there.
    pub(crate) by: C,
}

impl<C: Connector> Service for Forward<C> {
    /// A connection under way goes on when told to stop: it is its peers' to end, or the drain's.
    async fn serve<S: Connection>(&self, stream: S, mut left: Left, stop: Stop) -> io::Result<End<S>> {
        let far = match left.beside.pop() {
            Some(far) => C::Stream::take_up(far)?,
            None => match self.target.connect(&self.by).await {
                Ok(far) => far,
                Err(error) => return Ok(End::Broken(stream, error)),
            },
        };
        join(stream, far, left, stop).await
    }
}

/// Both ways, until both have ended; where one of them ends before its time, so does the other. What it leaves is the other
/// connection, and how far each way has come.
pub(super) async fn join<S: Connection, F: Carried>(
    mut near: S,
    mut far: F,
    mut left: Left,
    mut stop: Stop,
) -> io::Result<End<S>> {
    let (mut there, mut back) = (Way::new(&mut left, 0), Way::new(&mut left, 1));
    let both = poll_fn(|context| {
        let there = there.poll(context, &mut near, &mut far)?;
        let back = back.poll(context, &mut far, &mut near)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    let stands = tokio::select! {
        biased;
        () = stop.stands() => true,
        result = both => {
            if let Err(error) = result {
                // An end in order would tell the other side that it has got everything.
                far.reset();
                return Ok(End::Broken(near, error));
            }
            false
        }
    };
    if !stands {
        return Ok(End::Over);
    }
    let left = Left {
        numbers: vec![there.progress as u64, back.progress as u64],
        texts: vec![there.into_text(), back.into_text()],
        beside: vec![far.put_aside()?],
    };
    Ok(End::Stands(near, left))
}

/// How far one direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Open,
    /// Whoever is read from has said everything.
    Ended,
    /// And the other has been told so.
    Shut,
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    /// What was read and not written.
    waits: std::ops::Range<usize>,
    progress: Progress,
}

impl Way {
    /// As it was left.
    fn new(left: &mut Left, number: usize) -> Self {
        let mut buffer = left.text(number);
        let waits = 0..buffer.len();
        buffer.resize(buffer.len().max(limits::BUFFER), 0);
        let stages = [Progress::Open, Progress::Ended, Progress::Shut];
        let stage = stages.into_iter().find(|stage| *stage as u64 == left.number(number));
        Self { buffer, waits, progress: stage.unwrap_or(Progress::Open) }
    }

    fn into_text(mut self) -> Vec<u8> {
        self.buffer.truncate(self.waits.end);
        self.buffer.drain(..self.waits.start);
        self.buffer
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(text) = self.buffer.get(self.waits.clone()).filter(|text| !text.is_empty()) {
                let count = ready!(Pin::new(&mut *to).poll_write(context, text))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waits.start += count;
            }
            match self.progress {
                Progress::Open => {}
                Progress::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.progress = Progress::Shut;
                }
                Progress::Shut => return Poll::Ready(Ok(())),
            }
            if self.progress == Progress::Open {
                let mut into = ReadBuf::new(&mut self.buffer);
                match Pin::new(&mut *from).poll_read(context, &mut into)? {
                    Poll::Pending => {
                        ready!(Pin::new(&mut *to).poll_flush(context))?;
                        return Poll::Pending;
                    }
                    Poll::Ready(()) if into.filled().is_empty() => self.progress = Progress::Ended,
                    Poll::Ready(()) => self.waits = 0..into.filled().len(),
                }
            }
        }
    }
}
