/* Fuzzes the store's row keys with two rows of numbers and texts. For each kind of key:
 * - keys are ordered as the numbers are: what RocksDB iterates over is what the code means by a range;
 * - different rows have different keys, and a key that is read back gives its row;
 * - a prefix's range, [prefix, key_prefix_end), has the rows with these leading numbers and no other one.
 *
 * Input: a byte that chooses the kind, then for each of the two rows tenant, three numbers, and a text; the two texts
 * share what is left. Numbers come in as one byte that chooses between few and many, so that rows often share some. */
#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../storage/keys.h"
#include "../storage/kv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct row {
    uint32_t tenant;
    uint64_t numbers[3];
    struct slice text;
};

/* kind: how a row becomes a key. `make` writes it; the row's parts stand in the key in the order of `parts`: t tenant,
 * 0 1 2 a number, z a number zero, b one byte of a number, l the text's length and the text, x the text to the end. */
struct kind {
    const char *parts;
    void (*make)(struct key *k, const struct row *r);
    size_t text_max;
    uint8_t numbers_from_1; /* a bit each */
};

static void make_tenant(struct key *k, const struct row *r)
{
    key_tenant(k, r->tenant);
}
static void make_api_key(struct key *k, const struct row *r)
{
    key_api_key(k, r->tenant, r->text);
}
static void make_user(struct key *k, const struct row *r)
{
    key_user(k, r->tenant, r->numbers[0]);
}
static void make_room(struct key *k, const struct row *r)
{
    key_room(k, r->tenant, r->numbers[0]);
}
static void make_member(struct key *k, const struct row *r)
{
    key_member(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_user_room(struct key *k, const struct row *r)
{
    key_user_room(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_log(struct key *k, const struct row *r)
{
    key_log(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_change(struct key *k, const struct row *r)
{
    key_change(k, r->tenant, r->numbers[0], r->numbers[1], r->numbers[2]);
}
static void make_cursor(struct key *k, const struct row *r)
{
    key_cursor(k, r->tenant, r->numbers[0], r->text, r->numbers[1]);
}
static void make_run(struct key *k, const struct row *r)
{
    key_idempotency_run(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_answer(struct key *k, const struct row *r)
{
    key_answer(k, r->tenant, r->numbers[0], r->text);
}
static void make_notification(struct key *k, const struct row *r)
{
    key_notification(k, r->tenant, r->numbers[0], r->numbers[1],
                     r->numbers[2] & 1 ? NOTIFICATION_END : NOTIFICATION_BODY);
}
static void make_outbox(struct key *k, const struct row *r)
{
    key_outbox(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_dead_letter(struct key *k, const struct row *r)
{
    key_dead_letter(k, r->tenant, r->numbers[0], r->numbers[1]);
}
static void make_subscription(struct key *k, const struct row *r)
{
    key_subscription(k, r->tenant, r->numbers[0], r->text);
}
static void make_subscriber(struct key *k, const struct row *r)
{
    key_subscriber(k, r->tenant, r->text, r->numbers[0]);
}
static void make_name(struct key *k, const struct row *r)
{
    static const enum name_kind kinds[] = {NAME_DM, NAME_EMAIL, NAME_LOGIN,
                                           NAME_USER}; /* in the order of their bytes */
    key_name(k, r->tenant, kinds[r->numbers[0] & 3], r->text);
}

static const struct kind kinds[] = {
    {"t", make_tenant, 0, 0},
    {"tx", make_api_key, KEY_TEXT_MAX, 0},
    {"t0", make_user, 0, 0},
    {"t0", make_room, 0, 0},
    {"t01", make_member, 0, 0},
    {"t01", make_user_room, 0, 0},
    {"t01", make_log, 0, 0},
    {"t012", make_change, 0, 0},
    {"t0l1", make_cursor, DEVICE_BYTES_MAX, 0},
    {"t01", make_run, 0, 3},
    {"tz0x", make_answer, KEY_TEXT_MAX, 0},
    {"t01b", make_notification, 0, 0},
    {"t01", make_outbox, 0, 0},
    {"t01", make_dead_letter, 0, 0},
    {"t0x", make_subscription, TOPIC_BYTES_MAX, 1},
    {"tzl0", make_subscriber, TOPIC_BYTES_MAX, 0},
    {"tnx", make_name, KEY_TEXT_MAX, 0},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_texts(struct slice a, struct slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : compare(a.len, b.len);
}

/* compare_rows orders two rows of a kind part by part, without looking at a key. */
static int compare_rows(const struct kind *kind, const struct row *a, const struct row *b)
{
    int order = 0;
    for (const char *part = kind->parts; *part && order == 0; part++) {
        switch (*part) {
        case 't': order = compare(a->tenant, b->tenant); break;
        case '0': order = compare(a->numbers[0], b->numbers[0]); break;
        case '1': order = compare(a->numbers[1], b->numbers[1]); break;
        case '2': order = compare(a->numbers[2], b->numbers[2]); break;
        case 'b': order = compare(a->numbers[2] & 1, b->numbers[2] & 1); break;
        case 'n': order = compare(a->numbers[0] & 3, b->numbers[0] & 3); break;
        case 'z': break;
        case 'x': order = compare_texts(a->text, b->text); break;
        case 'l':
            order = a->text.len == b->text.len ? compare_texts(a->text, b->text) : compare(a->text.len, b->text.len);
            break;
        default: UNREACHABLE();
        }
    }
    return order;
}

static int sign(int order)
{
    return (order > 0) - (order < 0);
}

static bool has_prefix(struct slice key, struct slice prefix)
{
    return prefix.len == 0 || slice_starts(key, prefix);
}

/* in_range is what an iterator over a prefix's range would give. */
static bool in_range(struct slice key, struct slice prefix)
{
    struct key end;
    key_prefix_end(&end, prefix);
    return kv_key_compare(key, prefix) >= 0 && (end.len == 0 || kv_key_compare(key, key_slice(&end)) < 0);
}

/* read_back takes the key apart with the parsers, as those who iterate do. */
static void read_back(const struct kind *kind, const struct key *key, const struct row *r)
{
    struct slice rest = key_slice(key);
    uint32_t tenant;
    uint64_t number;
    for (const char *part = kind->parts; *part; part++) {
        switch (*part) {
        case 't': ASSERT(key_parse_u32(&rest, &tenant) && tenant == r->tenant); break;
        case '0':
        case '1':
        case '2': ASSERT(key_parse_u64(&rest, &number) && number == r->numbers[*part - '0']); break;
        case 'z': ASSERT(key_parse_u64(&rest, &number) && number == 0); break;
        case 'b':
        case 'n': rest = slice_from(rest, 1); break;
        case 'l':
            ASSERT(rest.len > r->text.len && (uint8_t)rest.data[0] == r->text.len);
            ASSERT(slice_eq(slice_of(rest.data + 1, r->text.len), r->text));
            rest = slice_from(rest, 1 + r->text.len);
            break;
        case 'x':
            ASSERT(slice_eq(rest, r->text));
            rest = slice_from(rest, rest.len);
            break;
        default: UNREACHABLE();
        }
    }
    ASSERT(rest.len == 0);
    struct slice none = slice_of(key->bytes, 3);
    ASSERT(!key_parse_u32(&none, &tenant) && !key_parse_u64(&none, &number) && none.len == 3);
}

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t take_byte(struct input *in)
{
    if (in->left == 0) return 0;
    in->left--;
    return *in->at++;
}

/* take_number gives numbers next to where bytes carry, and any other one. */
static uint64_t take_number(struct input *in)
{
    static const uint64_t edges[] = {
        0,       1,          2,          0xfe,      0xff,       0x100,          0xffff,
        0x10000, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    uint8_t choice = take_byte(in);
    uint64_t number = 0;
    if (choice < sizeof edges / sizeof *edges) return edges[choice];
    for (unsigned i = 0; i < choice % 9u; i++) number = number << 8 | take_byte(in);
    return number;
}

static void take_row(struct row *r, struct input *in, const struct kind *kind)
{
    r->tenant = (uint32_t)take_number(in);
    for (unsigned i = 0; i < 3; i++) {
        r->numbers[i] = take_number(in);
        if (kind->numbers_from_1 >> i & 1 && r->numbers[i] == 0) r->numbers[i] = 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input in = {data, len};
    const struct kind *kind = &kinds[take_byte(&in) % KINDS];
    struct row rows[2];
    take_row(&rows[0], &in, kind);
    take_row(&rows[1], &in, kind);
    size_t first = in.left ? take_byte(&in) % (in.left + 1) : 0;
    rows[0].text = slice_of(in.at, first);
    rows[1].text = slice_of(in.at + first, in.left - first);
    struct key keys[2];
    for (unsigned i = 0; i < 2; i++) {
        if (rows[i].text.len > kind->text_max) rows[i].text.len = kind->text_max;
        if (kind->text_max && rows[i].text.len == 0) rows[i].text = SLICE("a");
        kind->make(&keys[i], &rows[i]);
        ASSERT(keys[i].len > 0 && keys[i].len <= KEY_MAX);
        read_back(kind, &keys[i], &rows[i]);
    }
    struct slice a = key_slice(&keys[0]), b = key_slice(&keys[1]);
    ASSERT(sign(kv_key_compare(a, b)) == sign(compare_rows(kind, &rows[0], &rows[1])));
    for (size_t prefix_len = 0; prefix_len <= a.len; prefix_len++) {
        struct slice prefix = slice_of(a.data, prefix_len);
        ASSERT(in_range(a, prefix) && in_range(b, prefix) == has_prefix(b, prefix));
    }
    return 0;
}
