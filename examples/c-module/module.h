/* A UDP module in C: RFC 768 over both versions of IP, payload-blind, without a C library.
 *
 * It does what guest-udp does, and writes the same state: either may take over from the other.
 *
 *   module.c     the five exports, and the calls
 *   datagrams.c  messages that leave, segments that arrive, ICMP errors both ways
 *   fragments.c  datagrams in pieces
 *   sockets.c    whose a datagram is
 *   header.c     network headers
 *   save.c       the state as bytes
 *   memory.c     the memory that arguments arrive in
 *
 * protocol_module.h is what `wit-bindgen c` makes of wit/bulkhead.wit, and numbers.h has the contract's limits and registries
 * (wit/src/limits.rs, wit/src/registry.rs); `cargo xtask guests` writes both.
 */
#ifndef C_MODULE_MODULE_H
#define C_MODULE_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "numbers.h"
#include "protocol_module.h"

/* ---- the contract's types, by shorter names */

typedef exports_bulkhead_address_t Address;
typedef exports_bulkhead_bind_t Bind;
typedef exports_bulkhead_call_t Call;
typedef exports_bulkhead_config_t Config;
typedef exports_bulkhead_endpoint_t Endpoint;
typedef exports_bulkhead_event_t Event;
typedef exports_bulkhead_handle_t Handle;
typedef exports_bulkhead_message_t Message;
typedef exports_bulkhead_outputs_t Outputs;
typedef exports_bulkhead_place_t Place;
typedef exports_bulkhead_prefix_t Prefix;
typedef exports_bulkhead_room_t Room;
typedef exports_bulkhead_segment_t Segment;
typedef exports_bulkhead_send_t Send;
typedef exports_bulkhead_time_t Time;

/* ---- bounds of our own; the contract's are in numbers.h */

enum {
    /* The number of the format that `save` writes. */
    STATE_FORMAT = 2,
    /* Sockets at once. */
    SOCKETS = 1024,
    /* An IPv6 header and UDP's: the longest that leaves, but for quotes. */
    HEADERS = 48,
    /* Bytes of a quote in an ICMP error: its network header with options or extensions, and UDP's. */
    QUOTE = 128,
    /* Time to live of what is sent, where nobody says otherwise (RFC 1700). */
    DEFAULT_TTL = 64,
    /* ICMP errors a second, and at once after a pause (RFC 1812 4.3.2.8: they must be limited). */
    ERRORS_PER_SECOND = 100,
    /* Memory that a socket takes, about: guest-udp's figure, so that both tell the same. */
    BYTES_PER_SOCKET = 256,
    /* The longest state in words of 64 bits: see save.c. */
    STATE_WORDS = 8 + SOCKETS * 8 + LIMITS_HOLDS * (9 + LIMITS_ISLANDS),
};

#define NEVER UINT64_MAX
#define ERROR_TIME (LIMITS_SECOND / ERRORS_PER_SECOND)

/* What the census tells of datagrams. */
enum counter { COUNTED_IN, COUNTED_OUT, COUNTED_DROPPED, COUNTED_ERRORS, COUNTERS };

/* ---- the state: all that a step reads of the steps before it */

struct socket {
    Handle handle;
    Endpoint local;
    /* The only peer, or nobody. */
    Endpoint remote;
    bool dual_stack;
    /* 0 is the instance's. */
    uint8_t ttl;
    uint8_t traffic_class;
};

/* Bytes of a datagram that are there. */
struct run {
    uint32_t start, end;
};

/* A datagram in the making; its bytes are in the host's hold slot of the same number. */
struct slot {
    Address source, destination;
    uint32_t identification;
    /* Its length once the last fragment was seen, else 0. */
    uint32_t length;
    Time deadline;
    /* Ordered and apart from each other; an empty slot has none. */
    uint32_t run_count;
    struct run runs[LIMITS_ISLANDS];
};

struct state {
    /* Of the configuration, as much as UDP needs. */
    Prefix addresses[LIMITS_ADDRESSES];
    uint32_t address_count;
    bool any_address;
    uint32_t holds;

    uint8_t ttl;
    /* The time up to which ICMP errors are paid for. */
    Time errors_paid;
    uint64_t counters[COUNTERS];
    /* Ordered by handle, which is the order in which they are saved. */
    struct socket sockets[SOCKETS];
    uint32_t socket_count;
    struct slot slots[LIMITS_HOLDS];
};

extern struct state state;

/* ---- module.c */

/* What is left of a step's room. */
extern Room left;

/* The step's outputs so far. */
extern Outputs outputs;

bool is_ours(Address address);
void drop_one(void);
/* The next event, with this tag and everything else zero. */
Event *tell(uint8_t tag);
/* Places a whole segment's payload. */
void place(uint32_t segment, uint32_t length, uint8_t target, uint64_t of, uint64_t at);

/* ---- header.c */

/* A network header that leaves. */
struct outgoing {
    Address source, destination;
    uint8_t protocol, ttl, traffic_class;
};

/* What a fragment says of itself. */
struct fragment {
    uint32_t identification, offset;
    bool more;
    uint8_t protocol;
};

uint16_t read_u16(const uint8_t *at);
void write_u16(uint8_t *at, uint16_t value);
bool is_v4(Address address);
bool is_unspecified(Address address);
bool is_unicast(Address address);
bool same_address(Address a, Address b);
bool same_endpoint(Endpoint a, Endpoint b);
bool read_addresses(const uint8_t *header, size_t length, Address *source, Address *destination);
bool read_fragment(const uint8_t *header, size_t length, struct fragment *fragment);
size_t write_header(const struct outgoing *ip, uint8_t *to);

/* ---- sockets.c */

/* 0, or the reason's number. */
uint16_t bind_socket(const Bind *bind);
uint16_t close_socket(Handle handle);
struct socket *find_socket(Handle handle);
/* The socket that a datagram between these ends is for, or NULL. */
struct socket *find_taker(Endpoint local, Endpoint remote);
/* Has to be called whenever sockets came or went. */
void index_sockets(void);

/* ---- datagrams.c */

void take_message(uint32_t index, const Message *message);
void take_segment(uint32_t index, const Segment *segment, const uint8_t *header, Time now);
/* 0, or the reason's number why the peer cannot be told. */
uint16_t report(Handle of, uint16_t reason, Time now);

/* ---- fragments.c */

/* Whether the fragment was of use. */
bool take_fragment(uint32_t index, const Segment *segment, const uint8_t *header, Time now);
void expire_fragments(Time now);
void end_fragments(void);
Time fragments_deadline(void);
uint32_t slot_end(const struct slot *slot);

/* ---- save.c */

/* Bytes of the state, written to `to`. */
size_t save_state(uint8_t to[static STATE_WORDS * 8]);
/* Reads a state into one that was just started; false where it is none of ours. `keeps_ttl` leaves the configured one. */
bool load_state(const uint8_t *from, size_t length, bool keeps_ttl);

/* ---- memory.c */

void forget_arguments(void);

#endif
