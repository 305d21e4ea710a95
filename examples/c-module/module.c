/* The five exports, and the calls. A step is a function of the state and its inputs: no clock, no randomness, no payload byte. */

#include <string.h>

#include "module.h"

/* A step gives no more than this many of each, so that nothing has to be asked before something is added. */
_Static_assert(LIMITS_CALLS + LIMITS_MESSAGES + LIMITS_SEGMENTS <= LIMITS_SENDS, "a send for each call, message and segment");
_Static_assert(LIMITS_MESSAGES * HEADERS + (LIMITS_CALLS + LIMITS_SEGMENTS) * (HEADERS + QUOTE) <= LIMITS_HEADER_BYTES,
               "their headers");
_Static_assert(LIMITS_SEGMENTS <= LIMITS_PLACES, "a place for each segment");
_Static_assert(LIMITS_CALLS + LIMITS_SEGMENTS + LIMITS_HOLDS <= LIMITS_EVENTS, "an event for each call, segment and slot");

enum { CENSUS_FIELDS = CENSUS_ECHOES + 1 };

struct state state;
Room left;
Outputs outputs;

/* What `outputs` points at; the host has read it when the next call comes. */
static struct {
    uint8_t headers[LIMITS_HEADER_BYTES];
    Send sends[LIMITS_SENDS];
    Place places[LIMITS_PLACES];
    Event events[LIMITS_EVENTS];
    uint64_t census[LIMITS_CALLS][CENSUS_FIELDS];
} answer;

static uint8_t saved[STATE_WORDS * 8];

/* A constant as the contract's string; nothing writes to it or frees it. */
#define TEXT(text) ((protocol_module_string_t){(uint8_t *)(uintptr_t)text, sizeof text - 1})

bool is_ours(Address address) {
    for (uint32_t i = 0; i < state.address_count; i++) {
        if (same_address(state.addresses[i].address, address)) {
            return true;
        }
    }
    return state.any_address;
}

void drop_one(void) {
    state.counters[COUNTED_DROPPED]++;
}

Event *tell(uint8_t tag) {
    Event *event = &answer.events[outputs.events.len++];
    *event = (Event){.tag = tag};
    return event;
}

void place(uint32_t segment, uint32_t length, uint8_t target, uint64_t of, uint64_t at) {
    answer.places[outputs.places.len++] = (Place){
        .of = of,
        .at = at,
        .segment = segment,
        .length = length,
        .source = EXPORTS_BULKHEAD_SOURCE_SEGMENT,
        .target = target,
    };
}

/* ---- calls */

static void configure(const Config *config) {
    size_t count = config->addresses.len < LIMITS_ADDRESSES ? config->addresses.len : LIMITS_ADDRESSES;
    memcpy(state.addresses, config->addresses.ptr, count * sizeof *state.addresses);
    state.address_count = (uint32_t)count;
    state.any_address = config->any_address;
    state.holds = config->holds < LIMITS_HOLDS ? config->holds : LIMITS_HOLDS;
    state.ttl = DEFAULT_TTL;
    for (size_t i = 0; i < config->settings.len; i++) {
        uint64_t value = config->settings.ptr[i].value;
        if (config->settings.ptr[i].key == SETTING_TTL && value >= 1 && value <= UINT8_MAX) {
            state.ttl = (uint8_t)value;
        }
    }
}

static uint16_t set(Handle of, uint16_t key, uint64_t value) {
    if (value > UINT8_MAX) {
        return REASON_INVALID;
    }
    if (of == 0) {
        if (key == SETTING_TTL) {
            state.ttl = value == 0 ? 1 : (uint8_t)value;
        }
        return 0;
    }
    struct socket *socket = find_socket(of);
    if (socket == NULL) {
        return REASON_UNKNOWN;
    }
    if (key == SETTING_TTL) {
        socket->ttl = (uint8_t)value;
    } else if (key == SETTING_TRAFFIC_CLASS) {
        socket->traffic_class = (uint8_t)value;
    }
    return 0;
}

/* The census of the instance; of a socket there is nothing to tell. */
static void answer_query(uint32_t index, Handle of) {
    Event *event = tell(EXPORTS_BULKHEAD_EVENT_INFO);
    uint64_t *fields = answer.census[index];
    event->val.info.of = of;
    if (of != 0) {
        return;
    }
    memset(fields, 0, sizeof answer.census[index]);
    fields[CENSUS_LISTENERS] = state.socket_count;
    fields[CENSUS_SEGS_IN] = state.counters[COUNTED_IN];
    fields[CENSUS_SEGS_OUT] = state.counters[COUNTED_OUT];
    fields[CENSUS_DROPPED] = state.counters[COUNTED_DROPPED];
    fields[CENSUS_STATE_BYTES] = (uint64_t)state.socket_count * BYTES_PER_SOCKET;
    event->val.info.fields.ptr = fields;
    event->val.info.fields.len = CENSUS_FIELDS;
}

static uint16_t obey(uint32_t index, const Call *call, Time now) {
    switch (call->tag) {
    case EXPORTS_BULKHEAD_CALL_CONFIGURE:
        configure(&call->val.configure);
        return 0;
    case EXPORTS_BULKHEAD_CALL_BIND:
        return bind_socket(&call->val.bind);
    case EXPORTS_BULKHEAD_CALL_ABORT:
        return close_socket(call->val.abort);
    case EXPORTS_BULKHEAD_CALL_CLOSE:
        return close_socket(call->val.close.connection);
    case EXPORTS_BULKHEAD_CALL_SET:
        return set(call->val.set.of, call->val.set.setting.key, call->val.set.setting.value);
    case EXPORTS_BULKHEAD_CALL_QUERY:
        answer_query(index, call->val.query);
        return 0;
    case EXPORTS_BULKHEAD_CALL_REPORT:
        return report(call->val.report.connection, call->val.report.reason, now);
    case EXPORTS_BULKHEAD_CALL_RESEED:
        /* There is nothing random in UDP. */
        return 0;
    default:
        return REASON_UNSUPPORTED;
    }
}

static void take_call(uint32_t index, const Call *call, Time now) {
    uint16_t reason = obey(index, call, now);
    if (reason != 0) {
        Event *event = tell(EXPORTS_BULKHEAD_EVENT_FAILED);
        event->val.failed.call = index;
        event->val.failed.reason = reason;
    }
}

/* ---- the exports */

void exports_bulkhead_describe(exports_bulkhead_description_t *description) {
    static exports_bulkhead_service_t serves[] = {{SERVICE_IP_PROTOCOL, PROTOCOL_UDP}};
    static exports_bulkhead_service_t sends[] = {
        {SERVICE_IP_PROTOCOL, PROTOCOL_UDP},
        {SERVICE_IP_PROTOCOL, PROTOCOL_ICMP},
        {SERVICE_IP_PROTOCOL, PROTOCOL_ICMPV6},
    };
    static uint16_t settings[] = {SETTING_TTL, SETTING_TRAFFIC_CLASS};
    *description = (exports_bulkhead_description_t){
        .name = TEXT("udp-in-c"),
        .version = TEXT("1"),
        .serves = {serves, sizeof serves / sizeof *serves},
        .sends = {sends, sizeof sends / sizeof *sends},
        .bytes_per_connection = BYTES_PER_SOCKET,
        .state_format = STATE_FORMAT,
        .settings = {settings, sizeof settings / sizeof *settings},
    };
    forget_arguments();
}

static bool start(const Config *config, protocol_module_string_t *error) {
    if (config->addresses.len > LIMITS_ADDRESSES) {
        *error = TEXT("more addresses than the contract allows");
        return false;
    }
    memset(&state, 0, sizeof state);
    configure(config);
    index_sockets();
    return true;
}

bool exports_bulkhead_start(Config *config, protocol_module_string_t *error) {
    bool is_started = start(config, error);
    forget_arguments();
    return is_started;
}

void exports_bulkhead_save(protocol_module_list_u8_t *bytes) {
    *bytes = (protocol_module_list_u8_t){saved, save_state(saved)};
    forget_arguments();
}

/* Sockets are no connections, so there is nothing to account for. */
bool exports_bulkhead_load(Config *config, Time now, protocol_module_list_u8_t *bytes,
                           exports_bulkhead_list_summary_t *summaries, protocol_module_string_t *error) {
    (void)now;
    *summaries = (exports_bulkhead_list_summary_t){NULL, 0};
    bool is_loaded = start(config, error);
    if (is_loaded && !load_state(bytes->ptr, bytes->len, config->settings.len > 0)) {
        *error = TEXT("the state cannot be read");
        is_loaded = false;
    }
    forget_arguments();
    return is_loaded;
}

/* Inputs in the contract's order: calls, positions (of which UDP has none), messages, segments, time. */
void exports_bulkhead_step(Time now, Room *room, protocol_module_list_u8_t *headers,
                           exports_bulkhead_list_segment_t *segments, exports_bulkhead_list_position_t *positions,
                           exports_bulkhead_list_message_t *messages, exports_bulkhead_list_call_t *calls, Outputs *ret) {
    (void)positions;
    left = *room;
    outputs = (Outputs){
        .headers = {answer.headers, 0},
        .sends = {answer.sends, 0},
        .places = {answer.places, 0},
        .events = {answer.events, 0},
    };
    /* The bounds above rest on these; a host that does not keep them is no host. */
    if (calls->len > LIMITS_CALLS || messages->len > LIMITS_MESSAGES || segments->len > LIMITS_SEGMENTS) {
        __builtin_trap();
    }
    for (uint32_t i = 0; i < calls->len; i++) {
        take_call(i, &calls->ptr[i], now);
    }
    for (uint32_t i = 0; i < messages->len; i++) {
        take_message(i, &messages->ptr[i]);
    }
    for (uint32_t i = 0; i < segments->len; i++) {
        const Segment *segment = &segments->ptr[i];
        if ((uint64_t)segment->header + segment->header_length > headers->len) {
            __builtin_trap();
        }
        take_segment(i, segment, headers->ptr + segment->header, now);
    }
    expire_fragments(now);
    end_fragments();
    Time first = fragments_deadline(), nearest = now + LIMITS_DEADLINE_MIN;
    outputs.deadline = first > nearest ? first : nearest;
    *ret = outputs;
    forget_arguments();
}
