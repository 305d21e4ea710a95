//! Applications that stand still, as a message: a plan in JSON, their bytes, and the sockets with whoever carries them, which
//! is a [`HandOver`] for those of the stack and the message itself for those of the host.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use bulkhead::net::{HandOver, Net, Taken, TcpListener, TcpStream};
use serde_json::{Value, json};

use crate::apps::carried::{Left, Socket, Standing};
use crate::cli::ready::{Ear, Place, Resting};

/// What is packed.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) plan: Vec<Value>,
    /// What applications have read and not worked on, or not sent yet.
    pub(super) texts: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Packs applications.
#[derive(Debug)]
pub(super) struct Packer {
    handing: Vec<(HandOver, Count)>,
    packed: Packed,
}

/// Sockets that were given to a hand-over.
#[derive(Debug, Default)]
struct Count {
    listeners: usize,
    streams: usize,
}

impl Packer {
    /// From here on the stacks stand still.
    ///
    /// # Errors
    /// As [`Net::hand_over`]; then all of them go on.
    pub(super) fn new(nets: &[Net]) -> io::Result<Self> {
        let handing = nets.iter().map(|net| net.hand_over().map(|handing| (handing, Count::default())));
        Ok(Self { handing: handing.collect::<io::Result<_>>()?, packed: Packed::default() })
    }

    /// Packs an application.
    pub(super) fn add(&mut self, place: Place, resting: Resting) {
        let ear = match resting.ear {
            Ear::Nowhere => Value::Null,
            Ear::Host(fd) => self.descriptor(fd),
            Ear::Stack(listener) => self.listener(place.stack, listener),
        };
        let open: Vec<Value> = resting
            .open
            .into_iter()
            .map(|Standing { stream, peer, left: Left { numbers, texts, beside } }| {
                let near = self.socket(place.stack, stream);
                let beside: Vec<Value> =
                    beside.into_iter().map(|socket| self.socket(place.stack, socket)).collect();
                let texts: Vec<Value> = texts.iter().map(|text| self.text(text)).collect();
                json!({
                    "near": near, "peer": peer.to_string(), "numbers": numbers, "texts": texts, "beside": beside,
                })
            })
            .collect();
        self.packed.plan.push(
            json!({ "application": place.application, "stack": place.stack, "ear": ear, "open": open }),
        );
    }

    fn text(&mut self, text: &[u8]) -> Value {
        let at = self.packed.texts.len();
        self.packed.texts.extend_from_slice(text);
        json!([at, text.len()])
    }

    fn descriptor(&mut self, fd: OwnedFd) -> Value {
        self.packed.descriptors.push(fd);
        json!({ "descriptor": self.packed.descriptors.len() - 1 })
    }

    fn listener(&mut self, stack: usize, listener: TcpListener) -> Value {
        let Some((handing, count)) = self.handing.get_mut(stack) else { return Value::Null };
        handing.listener(listener, Vec::new());
        count.listeners += 1;
        json!({ "listener": count.listeners - 1 })
    }

    fn socket(&mut self, stack: usize, socket: Socket) -> Value {
        let stream = match socket {
            Socket::Fd(fd) => return self.descriptor(fd),
            Socket::Stack(stream) => stream,
        };
        let Some((handing, count)) = self.handing.get_mut(stack) else { return Value::Null };
        handing.stream(stream, Vec::new());
        count.streams += 1;
        json!({ "stream": count.streams - 1 })
    }

    /// What goes over by the message, and by the stacks.
    pub(super) fn finish(self) -> (Packed, Vec<HandOver>) {
        (self.packed, self.handing.into_iter().map(|(handing, _)| handing).collect())
    }
}

/// The sockets of a stack that changed hands.
struct Sockets {
    listeners: Vec<Option<TcpListener>>,
    streams: Vec<Option<TcpStream>>,
}

/// Unpacks what [`Packer`] has packed.
pub(super) struct Unpacker {
    stacks: Vec<Sockets>,
    descriptors: Vec<Option<OwnedFd>>,
    texts: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new(taken: Vec<Taken>, descriptors: Vec<OwnedFd>, texts: Vec<u8>) -> Self {
        let stacks = taken.into_iter().map(|taken| Sockets {
            listeners: taken.listeners.into_iter().map(|(listener, _)| Some(listener)).collect(),
            streams: taken.streams.into_iter().map(|(stream, _)| Some(stream)).collect(),
        });
        Self { stacks: stacks.collect(), descriptors: descriptors.into_iter().map(Some).collect(), texts }
    }

    /// The applications of a plan, each once.
    ///
    /// # Errors
    /// A plan that does not fit to what came with it.
    pub(super) fn unpack(&mut self, plan: &[Value]) -> anyhow::Result<Vec<(Place, Resting)>> {
        plan.iter()
            .map(|one| self.application(one).context("the applications' state makes no sense"))
            .collect()
    }

    fn application(&mut self, plan: &Value) -> anyhow::Result<(Place, Resting)> {
        let number = |key: &str| plan[key].as_u64().and_then(|number| usize::try_from(number).ok());
        let place = Place {
            application: number("application").context("no application")?,
            stack: number("stack").context("no stack")?,
        };
        let ear = match &plan["ear"] {
            Value::Null => Ear::Nowhere,
            ear if ear["descriptor"].is_u64() => Ear::Host(self.descriptor(ear)?),
            ear => Ear::Stack(self.listener(place.stack, ear)?),
        };
        let mut open = Vec::new();
        for one in plan["open"].as_array().into_iter().flatten() {
            let all = |key: &str| one[key].as_array().into_iter().flatten();
            let left = Left {
                numbers: all("numbers").map(|number| number.as_u64().unwrap_or(0)).collect(),
                texts: all("texts").map(|text| self.text(text)).collect::<anyhow::Result<_>>()?,
                beside: all("beside")
                    .map(|one| self.socket(place.stack, one))
                    .collect::<anyhow::Result<_>>()?,
            };
            let peer = one["peer"].as_str().unwrap_or_default().parse().context("no peer")?;
            open.push(Standing { stream: self.socket(place.stack, &one["near"])?, peer, left });
        }
        Ok((place, Resting { ear, open }))
    }

    fn text(&self, text: &Value) -> anyhow::Result<Vec<u8>> {
        let number = |at: usize| text[at].as_u64().and_then(|number| usize::try_from(number).ok());
        let (at, length) = number(0).zip(number(1)).context("no text")?;
        let end = at.checked_add(length).context("no text")?;
        Ok(self.texts.get(at..end).context("a text that is not there")?.to_vec())
    }

    fn socket(&mut self, stack: usize, socket: &Value) -> anyhow::Result<Socket> {
        if socket["descriptor"].is_u64() {
            return self.descriptor(socket).map(Socket::Fd);
        }
        let streams = self.stacks.get_mut(stack).map(|stack| &mut stack.streams).context("no such stack")?;
        took(streams, &socket["stream"]).map(Socket::Stack)
    }

    fn listener(&mut self, stack: usize, ear: &Value) -> anyhow::Result<TcpListener> {
        let stack = self.stacks.get_mut(stack).context("no such stack")?;
        took(&mut stack.listeners, &ear["listener"])
    }

    fn descriptor(&mut self, one: &Value) -> anyhow::Result<OwnedFd> {
        took(&mut self.descriptors, &one["descriptor"])
    }
}

/// Takes what has this number: it is there once.
fn took<T>(all: &mut [Option<T>], number: &Value) -> anyhow::Result<T> {
    let number = number.as_u64().and_then(|number| usize::try_from(number).ok()).context("no number")?;
    all.get_mut(number).and_then(Option::take).context("a socket that is not there")
}
