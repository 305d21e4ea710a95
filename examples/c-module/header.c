/* IPv4 (RFC 791) and IPv6 (RFC 8200) headers, as much as UDP has to read and to write. */

#include <string.h>

#include "module.h"

#define V4 0x0000ffff00000000u

uint16_t read_u16(const uint8_t *at) {
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t read_u32(const uint8_t *at) {
    return (uint32_t)read_u16(at) << 16 | read_u16(at + 2);
}

static uint64_t read_u64(const uint8_t *at) {
    return (uint64_t)read_u32(at) << 32 | read_u32(at + 4);
}

void write_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void write_u64(uint8_t *at, uint64_t value) {
    for (int byte = 0; byte < 8; byte++) {
        at[byte] = (uint8_t)(value >> (56 - 8 * byte));
    }
}

bool is_v4(Address address) {
    return address.high == 0 && (address.low & 0xffffffff00000000u) == V4;
}

bool is_unspecified(Address address) {
    return address.high == 0 && (address.low == 0 || address.low == V4);
}

bool is_unicast(Address address) {
    bool is_multicast = is_v4(address) ? (address.low >> 28 & 0xf) == 0xe : address.high >> 56 == 0xff;
    bool is_broadcast = is_v4(address) && (uint32_t)address.low == UINT32_MAX;
    return !is_unspecified(address) && !is_multicast && !is_broadcast;
}

bool same_address(Address a, Address b) {
    return a.high == b.high && a.low == b.low;
}

bool same_endpoint(Endpoint a, Endpoint b) {
    return same_address(a.address, b.address) && a.port == b.port;
}

bool read_addresses(const uint8_t *header, size_t length, Address *source, Address *destination) {
    if (length >= 20 && header[0] >> 4 == 4) {
        *source = (Address){0, V4 | read_u32(header + 12)};
        *destination = (Address){0, V4 | read_u32(header + 16)};
        return true;
    }
    if (length >= 40 && header[0] >> 4 == 6) {
        *source = (Address){read_u64(header + 8), read_u64(header + 16)};
        *destination = (Address){read_u64(header + 24), read_u64(header + 32)};
        return true;
    }
    return false;
}

/* From an IPv4 header, or from the fragment header among IPv6's extensions (RFC 8200 4.5). `length` is of a header whose
 * addresses were read. */
bool read_fragment(const uint8_t *header, size_t length, struct fragment *fragment) {
    if (header[0] >> 4 == 4) {
        uint16_t field = read_u16(header + 6);
        *fragment = (struct fragment){read_u16(header + 4), (field & 0x1fffu) * 8, (field & 0x2000) != 0, header[9]};
        return true;
    }
    enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60 };
    uint8_t next = header[6];
    size_t at = 40;
    for (uint32_t count = 0; count < LIMITS_EXTENSION_HEADERS && length >= 8 && at <= length - 8; count++) {
        const uint8_t *extension = header + at;
        if (next == FRAGMENT) {
            uint16_t field = read_u16(extension + 2);
            *fragment = (struct fragment){read_u32(extension + 4), field & 0xfff8u, (field & 1) != 0, extension[0]};
            return true;
        }
        if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION) {
            return false;
        }
        next = extension[0];
        at += (extension[1] + 1u) * 8;
    }
    return false;
}

/* Lengths, identification and checksum stay zero: join fills them. DF is not set, so that a datagram longer than the link
 * takes goes out in fragments. */
size_t write_header(const struct outgoing *ip, uint8_t *to) {
    if (is_v4(ip->source)) {
        const uint8_t start[12] = {0x45, ip->traffic_class, 0, 0, 0, 0, 0, 0, ip->ttl, ip->protocol, 0, 0};
        memcpy(to, start, sizeof start);
        uint64_t both = ip->source.low << 32 | (uint32_t)ip->destination.low;
        write_u64(to + 12, both);
        return 20;
    }
    const uint8_t start[8] = {
        (uint8_t)(0x60 | ip->traffic_class >> 4), (uint8_t)(ip->traffic_class << 4), 0, 0, 0, 0, ip->protocol, ip->ttl,
    };
    memcpy(to, start, sizeof start);
    write_u64(to + 8, ip->source.high);
    write_u64(to + 16, ip->source.low);
    write_u64(to + 24, ip->destination.high);
    write_u64(to + 32, ip->destination.low);
    return 40;
}
