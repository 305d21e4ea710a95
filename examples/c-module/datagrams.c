/* Datagrams out and in, and the ICMP errors about them. */

#include <string.h>

#include "module.h"

/* Takes a frame's bytes out of what is left of the step's room. */
static bool take_room(uint64_t bytes) {
    if (left.sends == 0 || bytes > left.bytes) {
        return false;
    }
    left.sends--;
    left.bytes -= (uint32_t)bytes;
    return true;
}

/* Begins a send: a network header at the end of `headers`, which `end_send` takes account of. */
static uint8_t *begin_send(const struct outgoing *ip, Send *send) {
    *send = (Send){.header = (uint32_t)outputs.headers.len};
    uint8_t *to = outputs.headers.ptr + outputs.headers.len;
    send->transport = (uint16_t)write_header(ip, to);
    return to + send->transport;
}

static void end_send(Send send, uint8_t *end) {
    send.header_length = (uint16_t)(end - (outputs.headers.ptr + send.header));
    outputs.headers.len += send.header_length;
    outputs.sends.ptr[outputs.sends.len++] = send;
}

/* ---- messages of the application's */

static bool contains(const Prefix *prefix, Address address) {
    uint64_t high = prefix->address.high ^ address.high, low = prefix->address.low ^ address.low;
    if (prefix->length <= 64) {
        return prefix->length == 0 || high >> (64 - prefix->length) == 0;
    }
    return high == 0 && (prefix->length >= 128 ? low == 0 : low >> (128 - prefix->length) == 0);
}

/* One of our addresses of the same version, best one in the same network; NULL where there is none. */
static const Address *source_for(Address to) {
    const Address *any = NULL;
    for (uint32_t i = 0; i < state.address_count; i++) {
        const Prefix *prefix = &state.addresses[i];
        if (is_v4(prefix->address) != is_v4(to)) {
            continue;
        }
        if (contains(prefix, to)) {
            return &prefix->address;
        }
        any = any == NULL ? &prefix->address : any;
    }
    return any;
}

/* RFC 768: the header, and the message behind it. What has no room, no source or no receiver is gone, as datagrams are. */
void take_message(uint32_t index, const Message *message) {
    const struct socket *socket = find_socket(message->socket);
    if (socket == NULL) {
        return drop_one();
    }
    Endpoint from = message->source.port == 0 ? socket->local : message->source;
    if (is_unspecified(from.address)) {
        const Address *source = source_for(message->to.address);
        if (source == NULL) {
            return drop_one();
        }
        from.address = *source;
    }
    bool fits = is_v4(from.address) == is_v4(message->to.address) && is_unicast(message->to.address);
    if (!fits || !take_room((uint64_t)message->length + HEADERS)) {
        return drop_one();
    }
    struct outgoing ip = {
        .source = from.address,
        .destination = message->to.address,
        .protocol = PROTOCOL_UDP,
        .ttl = message->hop_limit ? message->hop_limit : socket->ttl ? socket->ttl : state.ttl,
        .traffic_class = message->traffic_class ? message->traffic_class : socket->traffic_class,
    };
    Send send;
    uint8_t *udp = begin_send(&ip, &send);
    send.of = index;
    send.length = message->length;
    send.source = EXPORTS_BULKHEAD_SOURCE_MESSAGE;
    send.how = EXPORTS_BULKHEAD_HOW_MAY_FRAGMENT;
    write_u16(udp, from.port);
    write_u16(udp + 2, message->to.port);
    /* Length and checksum are join's. */
    memset(udp + 4, 0, 4);
    end_send(send, udp + 8);
    state.counters[COUNTED_OUT]++;
}

/* ---- what arrives */

/* Type and code of an ICMP error. */
struct icmp {
    uint8_t type, code;
};

/* RFC 1122 4.1.3.1, RFC 4443 3.1: nobody has this port. */
static struct icmp port_unreachable(bool v4) {
    return v4 ? (struct icmp){3, 3} : (struct icmp){1, 4};
}

/* Tells a sender by an ICMP error that its datagram has not arrived, so many times a second (RFC 1812 4.3.2.8, RFC 4443 2.4). */
static void refuse(struct icmp why, Address source, Address destination, const uint8_t *quoted, size_t length, Time now) {
    Time paid = (state.errors_paid > now ? state.errors_paid : now) + ERROR_TIME;
    /* RFC 1122 3.2.2: never about what went to many, or came from nobody. */
    bool is_fit = is_unicast(source) && is_unicast(destination) && length <= QUOTE;
    if (paid > now + LIMITS_SECOND || !is_fit || !take_room((uint64_t)length + HEADERS)) {
        return;
    }
    state.errors_paid = paid;
    bool v4 = is_v4(source);
    struct outgoing ip = {
        .source = destination,
        .destination = source,
        .protocol = v4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6,
        .ttl = state.ttl,
    };
    Send send;
    uint8_t *icmp = begin_send(&ip, &send);
    const uint8_t start[8] = {why.type, why.code, 0, 0, 0, 0, 0, 0};
    memcpy(icmp, start, sizeof start);
    memcpy(icmp + sizeof start, quoted, length);
    end_send(send, icmp + sizeof start + length);
    state.counters[COUNTED_ERRORS]++;
}

/* The error of a router that would be at this place; false where no error says that. */
static bool icmp_of(uint16_t reason, bool v4, struct icmp *icmp) {
    switch (reason) {
    case REASON_PORT_UNREACHABLE:
    case REASON_REFUSED:
        *icmp = port_unreachable(v4);
        return true;
    case REASON_NETWORK_UNREACHABLE:
        *icmp = v4 ? (struct icmp){3, 0} : (struct icmp){1, 0};
        return true;
    case REASON_HOST_UNREACHABLE:
        *icmp = v4 ? (struct icmp){3, 1} : (struct icmp){1, 3};
        return true;
    case REASON_PROHIBITED:
        *icmp = v4 ? (struct icmp){3, 13} : (struct icmp){1, 1};
        return true;
    default:
        return false;
    }
}

/* What the host has found out about the way on from a socket with one peer: the peer is told (RFC 1812 5.2.7.1, RFC 4443
 * 3.1). The datagram itself is gone; a header of its ends, of a datagram without bytes, is what the error is about. */
uint16_t report(Handle of, uint16_t reason, Time now) {
    const struct socket *socket = find_socket(of);
    if (socket == NULL) {
        return REASON_UNKNOWN;
    }
    Endpoint from = socket->remote, to = socket->local;
    struct icmp icmp;
    bool v4 = is_v4(from.address), is_one = from.port != 0 && to.port != 0 && v4 == is_v4(to.address);
    if (!is_one || !icmp_of(reason, v4, &icmp)) {
        return REASON_INVALID;
    }
    struct outgoing ip = {
        .source = from.address,
        .destination = to.address,
        .protocol = PROTOCOL_UDP,
        .ttl = state.ttl,
    };
    uint8_t quote[HEADERS];
    size_t length = write_header(&ip, quote);
    /* Nobody fills in the lengths of what is quoted: IPv4's counts its header too. */
    write_u16(quote + (v4 ? 2 : 4), v4 ? (uint16_t)(length + 8) : 8);
    uint8_t *udp = quote + length;
    memset(udp, 0, 8);
    write_u16(udp, from.port);
    write_u16(udp + 2, to.port);
    write_u16(udp + 4, 8);
    refuse(icmp, from.address, to.address, quote, length + 8, now);
    return 0;
}

static void take_datagram(uint32_t index, const Segment *segment, const uint8_t *header, Time now) {
    Address source, destination;
    state.counters[COUNTED_IN] += segment->count;
    if (segment->header_length < segment->transport + 8u
        || !read_addresses(header, segment->header_length, &source, &destination) || !is_ours(destination)) {
        return drop_one();
    }
    const uint8_t *udp = header + segment->transport;
    Endpoint remote = {source, read_u16(udp)}, local = {destination, read_u16(udp + 2)};
    const struct socket *taker = find_taker(local, remote);
    if (taker == NULL) {
        drop_one();
        return refuse(port_unreachable(is_v4(source)), source, destination, header, segment->header_length, now);
    }
    place(index, segment->payload, EXPORTS_BULKHEAD_TARGET_DATAGRAM, taker->handle, 0);
}

/* What an ICMP error comes to (RFC 792, RFC 4443 3); false where it is nothing to tell: how long a datagram may be is the
 * affair of who cuts it. */
static bool reason_of(bool v4, uint8_t type, uint8_t code, uint16_t *reason) {
    if (type != (v4 ? 3 : 1) || (v4 && code == 4)) {
        return false;
    }
    bool is_port = v4 ? code == 3 : code == 4;
    bool is_prohibited = v4 ? code == 9 || code == 10 || code == 13 : code == 1;
    *reason = is_port              ? REASON_PORT_UNREACHABLE
              : is_prohibited      ? REASON_PROHIBITED
              : (v4 && code == 0)  ? REASON_NETWORK_UNREACHABLE
                                   : REASON_HOST_UNREACHABLE;
    return true;
}

/* An error about a datagram of ours is news for a socket with one peer (RFC 1122 4.1.3.3). */
static void take_error(const Segment *segment, const uint8_t *header) {
    /* The quote is of 28 bytes at least: an IPv4 header and UDP's. */
    if (segment->header_length < segment->transport + 8u + 28u) {
        return;
    }
    const uint8_t *icmp = header + segment->transport, *quoted = icmp + 8;
    size_t length = segment->header_length - segment->transport - 8u;
    Address source, destination;
    uint16_t reason;
    if (!read_addresses(quoted, length, &source, &destination)
        || !reason_of(is_v4(source), icmp[0], icmp[1], &reason)) {
        return;
    }
    /* UDP's header is the last eight bytes of what split passes on. */
    const uint8_t *udp = quoted + length - 8;
    Endpoint local = {source, read_u16(udp)}, remote = {destination, read_u16(udp + 2)};
    const struct socket *socket = find_taker(local, remote);
    if (socket == NULL || !same_endpoint(socket->remote, remote)) {
        return;
    }
    Event *event = tell(EXPORTS_BULKHEAD_EVENT_WARNED);
    event->val.warned.connection = socket->handle;
    event->val.warned.reason = reason;
    event->val.warned.value = (uint32_t)icmp[0] << 8 | icmp[1];
}

void take_segment(uint32_t index, const Segment *segment, const uint8_t *header, Time now) {
    if (segment->kind == EXPORTS_BULKHEAD_KIND_WHOLE && segment->protocol == PROTOCOL_UDP) {
        take_datagram(index, segment, header, now);
    } else if (segment->kind == EXPORTS_BULKHEAD_KIND_ICMP_ERROR) {
        take_error(segment, header);
    } else if (segment->kind != EXPORTS_BULKHEAD_KIND_FRAGMENT || !take_fragment(index, segment, header, now)) {
        drop_one();
    }
}
