//! Readiness: `poll` and `epoll`.

use crate::errno::{Errno, Outcome};
use crate::socket::Kind;
use crate::world::World;
use libc::{c_int, epoll_event, pollfd};
use std::os::fd::{AsRawFd, OwnedFd};

/// Descriptors in one set, at most.
const INTERESTS: usize = 1024;

#[derive(Debug)]
struct Interest {
    fd: c_int,
    events: u32,
    data: u64,
    /// The news that were told last, in and out, for those who want each told once.
    told: (u64, u64),
    /// Not to be told again until it is asked for anew (`EPOLLONESHOT`).
    is_spent: bool,
}

/// A set of descriptors that somebody is interested in.
#[derive(Debug)]
pub(crate) struct Epoll {
    _fd: OwnedFd,
    interests: Vec<Interest>,
}

impl Epoll {
    /// A descriptor is closed.
    pub(crate) fn forget(&mut self, fd: c_int) {
        self.interests.retain(|interest| interest.fd != fd);
    }
}

const ERROR: u32 = libc::EPOLLERR as u32;
const HANG_UP: u32 = libc::EPOLLHUP as u32;
const IN: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const OUT: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
const PEER_HANG_UP: u32 = libc::EPOLLRDHUP as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;

impl World {
    /// What a socket is ready for. A writer that finds no space is told when there is some.
    fn readiness(&mut self, fd: c_int) -> Outcome<u32> {
        let socket = self.sockets.get_mut(&fd).ok_or(Errno::BADF)?;
        let stream = match socket.kind {
            Kind::New => return Ok(OUT | HANG_UP),
            Kind::Listener(_) => return Ok(if socket.acceptable > 0 { IN } else { 0 }),
            Kind::Stream(stream) => stream,
        };
        let Some(stack) = self.stack.as_mut() else { return Ok(0) };
        let mut events = 0;
        if socket.pending_error(stack).is_some() {
            events |= ERROR;
        }
        if stack.end_of(stream).is_some() {
            return Ok(events | IN | OUT | HANG_UP | PEER_HANG_UP);
        }
        if !matches!(stack.is_open(stream), Ok(true)) {
            return Ok(events);
        }
        let (readable, at_end) = stack.readable(stream).unwrap_or_default();
        if readable >= u64::from(socket.chosen.receive_lowat) || at_end || socket.is_shut_for_reading {
            events |= IN;
        }
        if at_end || socket.is_shut_for_reading {
            events |= PEER_HANG_UP;
        }
        if socket.has_space(stack, &self.watch) {
            events |= OUT;
        } else {
            socket.wants_space = true;
        }
        Ok(events)
    }

    /// `poll`: how many of them are ready; `EAGAIN` if none is.
    pub(crate) fn poll(&mut self, fds: &mut [pollfd]) -> Outcome<c_int> {
        let mut count = 0;
        for asked in fds {
            asked.revents = 0;
            if asked.fd < 0 {
                continue;
            }
            let wanted = asked.events as u16 as u32 | ERROR | HANG_UP;
            let found = match self.readiness(asked.fd) {
                Ok(events) => events & wanted,
                Err(_) => libc::POLLNVAL as u32,
            };
            // The two interfaces share the numbers of these events.
            asked.revents = found as u16 as i16;
            count += c_int::from(found != 0);
        }
        if count == 0 { Err(Errno::AGAIN) } else { Ok(count) }
    }

    pub(crate) fn epoll_create(&mut self) -> Outcome<c_int> {
        let fd = Self::descriptor()?;
        let number = fd.as_raw_fd();
        self.epolls.insert(number, Epoll { _fd: fd, interests: Vec::new() });
        Ok(number)
    }

    pub(crate) fn epoll_ctl(
        &mut self,
        epoll: c_int,
        operation: c_int,
        fd: c_int,
        event: Option<epoll_event>,
    ) -> Outcome<()> {
        if !self.sockets.contains_key(&fd) {
            return Err(Errno(libc::EPERM));
        }
        let epoll = self.epolls.get_mut(&epoll).ok_or(Errno::BADF)?;
        let at = epoll.interests.iter().position(|interest| interest.fd == fd);
        if operation == libc::EPOLL_CTL_DEL {
            epoll.interests.remove(at.ok_or(Errno(libc::ENOENT))?);
            return Ok(());
        }
        let event = event.ok_or(Errno::FAULT)?;
        // Asked for anew, what is ready is told even to those who want each news once.
        let fresh = Interest { fd, events: event.events, data: event.u64, told: (0, 0), is_spent: false };
        match (operation, at) {
            (libc::EPOLL_CTL_ADD, Some(_)) => Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD, None) if epoll.interests.len() < INTERESTS => {
                epoll.interests.push(fresh);
                Ok(())
            }
            (libc::EPOLL_CTL_ADD, None) => Err(Errno(libc::ENOSPC)),
            (libc::EPOLL_CTL_MOD, Some(at)) => {
                epoll.interests[at] = fresh;
                Ok(())
            }
            (libc::EPOLL_CTL_MOD, None) => Err(Errno(libc::ENOENT)),
            _ => Err(Errno::INVALID),
        }
    }

    /// `epoll_wait`: what is ready, at most `most`; `EAGAIN` if nothing is.
    pub(crate) fn epoll_wait(&mut self, epoll: c_int, most: usize) -> Outcome<Vec<epoll_event>> {
        let mut interests = std::mem::take(&mut self.epolls.get_mut(&epoll).ok_or(Errno::BADF)?.interests);
        let mut found = Vec::new();
        for interest in &mut interests {
            if found.len() == most || interest.is_spent {
                continue;
            }
            let Ok(ready) = self.readiness(interest.fd) else { continue };
            let mut events = ready & (interest.events | ERROR | HANG_UP);
            if interest.events & EDGE != 0 {
                events = self.edges(interest, events);
            }
            if events != 0 {
                found.push(epoll_event { events, u64: interest.data });
                interest.is_spent = interest.events & ONCE != 0;
            }
        }
        if let Some(epoll) = self.epolls.get_mut(&epoll) {
            epoll.interests = interests;
        }
        if found.is_empty() { Err(Errno::AGAIN) } else { Ok(found) }
    }

    /// Everything that is ready, if anything of it is news; nothing otherwise.
    fn edges(&self, interest: &mut Interest, events: u32) -> u32 {
        let Some(socket) = self.sockets.get(&interest.fd) else { return 0 };
        let (in_edges, out_edges) = (socket.in_edges + 1, socket.out_edges + 1);
        let has_in = in_edges > interest.told.0 && events & !OUT != 0;
        let has_out = out_edges > interest.told.1 && events & !IN != 0;
        if !has_in && !has_out {
            return 0;
        }
        interest.told = (in_edges, out_edges);
        events
    }
}
