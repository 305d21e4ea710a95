//! A device in a box is one.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bulkhead_wit::Time;

use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool};

impl<D: Device + ?Sized> Device for Box<D> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        (**self).receive(pool)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        (**self).transmit(parts, offload)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).as_fd()
    }

    fn set_now(&mut self, now: Time) {
        (**self).set_now(now);
    }

    fn next_deadline(&self) -> Time {
        (**self).next_deadline()
    }

    fn steer(&mut self, frame: Frame) -> Option<Frame> {
        (**self).steer(frame)
    }
}
