//! Between the generated types and the contract's, for everything but the lists of a step.

use bulkhead_wit as twin;
use bulkhead_wit::Handle;

use super::bindings::wit;

impl From<twin::Address> for wit::Address {
    fn from(address: twin::Address) -> Self {
        Self { high: address.high, low: address.low }
    }
}

impl From<twin::Endpoint> for wit::Endpoint {
    fn from(endpoint: twin::Endpoint) -> Self {
        Self { address: endpoint.address.into(), port: endpoint.port }
    }
}

impl From<wit::Endpoint> for twin::Endpoint {
    fn from(endpoint: wit::Endpoint) -> Self {
        let wit::Address { high, low } = endpoint.address;
        Self { address: twin::Address { high, low }, port: endpoint.port }
    }
}

impl From<twin::Setting> for wit::Setting {
    fn from(setting: twin::Setting) -> Self {
        Self { key: setting.key, value: setting.value }
    }
}

fn settings(settings: &[twin::Setting]) -> Vec<wit::Setting> {
    settings.iter().map(|setting| (*setting).into()).collect()
}

impl From<&twin::Config> for wit::Config {
    fn from(config: &twin::Config) -> Self {
        let prefix = |p: &twin::Prefix| wit::Prefix { address: p.address.into(), length: p.length };
        Self {
            addresses: config.addresses.iter().map(prefix).collect(),
            any_address: config.any_address,
            mtu: config.mtu,
            seed: config.seed,
            shard: config.shard,
            shards: config.shards,
            ports_first: config.ports_first,
            ports_last: config.ports_last,
            connections: config.connections,
            embryos: config.embryos,
            offers: config.offers,
            islands: config.islands,
            holds: config.holds,
            settings: settings(&config.settings),
        }
    }
}

fn listening(how: twin::Listening) -> wit::Listening {
    let mut flags = wit::Listening::empty();
    for (flag, bit) in [
        (wit::Listening::DUAL_STACK, twin::Listening::DUAL_STACK),
        (wit::Listening::ANY_ADDRESS, twin::Listening::ANY_ADDRESS),
        (wit::Listening::DEFER, twin::Listening::DEFER),
    ] {
        if how.contains(bit) {
            flags |= flag;
        }
    }
    flags
}

fn verdict(verdict: twin::Verdict) -> wit::Verdict {
    match verdict {
        twin::Verdict::Accept => wit::Verdict::Accept,
        twin::Verdict::Reset => wit::Verdict::Reset,
        twin::Verdict::Unreachable => wit::Verdict::Unreachable,
        twin::Verdict::Drop => wit::Verdict::Drop,
    }
}

impl From<&twin::Listen> for wit::Listen {
    fn from(listen: &twin::Listen) -> Self {
        Self {
            listener: listen.listener,
            local: listen.local.into(),
            how: listening(listen.how),
            allow: listen.allow,
            receive_first: listen.receive_first,
            receive_max: listen.receive_max,
            settings: settings(&listen.settings),
        }
    }
}

impl From<&twin::Open> for wit::Open {
    fn from(open: &twin::Open) -> Self {
        Self {
            connection: open.connection.0,
            local: open.local.into(),
            remote: open.remote.into(),
            receive_first: open.receive_first,
            receive_max: open.receive_max,
            settings: settings(&open.settings),
        }
    }
}

impl From<&twin::Call> for wit::Call {
    fn from(call: &twin::Call) -> Self {
        use twin::Call;
        match call {
            Call::Configure(config) => Self::Configure(config.into()),
            Call::Reseed(seed) => Self::Reseed(*seed),
            Call::Listen(listen) => Self::Listen(listen.into()),
            Call::Allow(allow) => Self::Allow(wit::Allow { listener: allow.listener, up_to: allow.up_to }),
            Call::Unlisten(listener) => Self::Unlisten(*listener),
            Call::Open(open) => Self::Open(open.into()),
            Call::Bind(bind) => Self::Bind(wit::Bind {
                socket: bind.socket.0,
                local: bind.local.into(),
                remote: bind.remote.into(),
                how: listening(bind.how),
            }),
            Call::Decide(decide) => Self::Decide(wit::Decide {
                connection: decide.connection.0,
                verdict: verdict(decide.verdict),
                code: decide.code,
            }),
            Call::Shutdown(handle) => Self::Shutdown(handle.0),
            Call::Close(close) => {
                Self::Close(wit::Close { connection: close.connection.0, linger: close.linger })
            }
            Call::Abort(handle) => Self::Abort(handle.0),
            Call::Set(change) => Self::Set(wit::Change { of: change.of.0, setting: change.setting.into() }),
            Call::Query(handle) => Self::Query(handle.0),
            Call::Report(report) => Self::Report(wit::Reason {
                connection: report.connection.0,
                reason: report.reason,
                value: report.value,
            }),
        }
    }
}

impl From<wit::Description> for twin::Description {
    fn from(description: wit::Description) -> Self {
        let service = |s: wit::Service| twin::Service { kind: s.kind, value: s.value };
        Self {
            name: description.name,
            version: description.version,
            serves: description.serves.into_iter().map(service).collect(),
            sends: description.sends.into_iter().map(service).collect(),
            bytes_per_connection: description.bytes_per_connection,
            state_format: description.state_format,
            settings: description.settings,
        }
    }
}

impl From<wit::Summary> for twin::Summary {
    fn from(summary: wit::Summary) -> Self {
        Self {
            connection: Handle(summary.connection),
            local: summary.local.into(),
            remote: summary.remote.into(),
            receive_base: summary.receive_base,
            send_base: summary.send_base,
            exposed: summary.exposed,
            acknowledged: summary.acknowledged,
            sent: summary.sent,
            limit: summary.limit,
        }
    }
}
