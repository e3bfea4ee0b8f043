#include "kv_rocksdb.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/log.h"
#include "../src/base/planted.h"
#include "kv_guard.h"
#include "store.h"

/* RocksDB insists on a family called "default"; it stays empty, so that every row is in a family with a name. */
#define FAMILIES (KV_CFS + 1)
#define DEFAULT_FAMILY KV_CFS

#define FILTER_BITS_PER_KEY 10.0            /* 1 % of look-ups for an absent key read a block for nothing */
#define RANGE_BLOCK_BYTES (16u << 10)       /* families that are read in ranges: fewer index entries, better ratio */
#define POINT_BLOCK_BYTES (4u << 10)        /* families that are read by key: less to read and decode for one row */
#define FILE_BYTES_PER_SYNC (1u << 20)      /* table files reach the disk evenly instead of in front of a WAL sync */
#define INFO_LOG_LEVEL_FATAL 4              /* InfoLogLevel in rocksdb/env.h; the C header has no name for it */
#define BACKGROUND_JOBS 2
#define LOG_WRITE_BUFFERS 4                 /* a flush slower than a burst must not stop the writer at once */
#define OTHER_WRITE_BUFFERS 2
#define WAL_WRITE_BUFFERS 4                 /* WAL kept for rarely written families, in log buffers: bounds recovery */
#define PATH_BYTES_MAX 4096

struct rocks {
    struct kv kv;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family[FAMILIES];
    rocksdb_options_t *options;             /* of the database */
    rocksdb_options_t *family_options[FAMILIES];
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;  /* sync off: durability is kv_sync's */
    rocksdb_readoptions_t *get_options;
    struct kv_guard *guard;                 /* NULL when only read */
    char *db_path, *info_log_path;
    _Atomic bool failed;                    /* a write or sync failed: neither is tried again */
};

struct kv_batch {
    struct rocks *rocks;
    rocksdb_writebatch_t *rows;
};

/* The bounds must live as long as the read options that point at them. */
struct kv_iter {
    rocksdb_iterator_t *rows;
    rocksdb_readoptions_t *options;
    struct buf lower, upper;
};

static struct rocks *rocks_new(const struct store_options *options);
static void rocks_free(struct rocks *r);
static enum status find_unknown_family(struct rocks *r, char *why, size_t why_len);
static bool has_tables(const char *db_path);
static enum status open_database(struct rocks *r, bool read_only, char *why, size_t why_len);
static enum status refused_opening(const struct rocks *r, const char *error, char *why, size_t why_len);
static rocksdb_options_t *database_options(const struct rocks *r, const struct store_options *options);
static rocksdb_options_t *family_options(const struct rocks *r, unsigned family, const struct store_options *options);
static void set_table(rocksdb_options_t *o, const struct rocks *r, bool read_in_ranges);
static rocksdb_options_t *options_from(const char *text);
static const char *family_name(unsigned family);
static bool is_appended(unsigned family);
static bool has_failed(const struct rocks *r);
static struct kv_manifest manifest_of(const struct rocks *r);
static void note_failed_file(const char *path, const char *detail);
static enum status status_of(const char *operation, char *error);
static enum status told(const char *operation, const char *error);
static enum status outcome(struct rocks *r, const char *operation, char *error, const char *failure);
static enum status refusal_of(char *error);
static enum status classify(const char *error);
static char *path_of(const char *dir, const char *name);
static const struct kv_ops rocks_ops;

enum status kv_rocksdb_open(struct kv **out, const struct store_options *options, char *why, size_t why_len)
{
    *out = NULL;
    struct rocks *r = rocks_new(options);
    enum status s = find_unknown_family(r, why, why_len);
    if (s == STATUS_OK) s = open_database(r, options->read_only, why, why_len);
    if (s != STATUS_OK) {
        rocks_free(r);
        return s;
    }
    *out = &r->kv;
    return STATUS_OK;
}

uint64_t kv_rocksdb_property(struct kv *kv, const char *name)
{
    /* These are counted once for the database; asked of each family they would come back as many times. */
    static const char *const of_database[] = {
        "rocksdb.actual-delayed-write-rate", "rocksdb.is-write-stopped",
        "rocksdb.num-snapshots",             "rocksdb.num-running-flushes",     "rocksdb.num-running-compactions",
        "rocksdb.oldest-snapshot-time",      "rocksdb.is-file-deletions-enabled", "rocksdb.block-cache-capacity",
        "rocksdb.block-cache-usage",         "rocksdb.block-cache-pinned-usage", "rocksdb.min-log-number-to-keep",
    };
    struct rocks *r = (struct rocks *)kv;
    uint64_t value = 0, sum = 0;
    /* RocksDB (7.8) notes errors of all families at the default one, which is empty here (db_impl.cc). */
    if (strcmp(name, "rocksdb.background-errors") == 0)
        return rocksdb_property_int_cf(r->db, r->family[KV_CFS], name, &value) == 0 ? value : 0;
    for (size_t i = 0; i < sizeof of_database / sizeof *of_database; i++) {
        if (strcmp(name, of_database[i]) != 0) continue;
        /* asked of a real family: the empty one has no block cache of ours */
        return rocksdb_property_int_cf(r->db, r->family[KV_LOG], name, &value) == 0 ? value : 0;
    }
    for (unsigned f = 0; f < KV_CFS; f++)
        if (rocksdb_property_int_cf(r->db, r->family[f], name, &value) == 0) sum += value;
    return sum;
}

rocksdb_t *kv_rocksdb_handle(struct kv *kv)
{
    struct rocks *r = (struct rocks *)kv;
    ASSERT(kv->ops == &rocks_ops);
    return has_failed(r) ? NULL : r->db;
}

static struct rocks *rocks_new(const struct store_options *options)
{
    ASSERT(options->dir && options->write_buffer_bytes > 0);
    struct rocks *r = calloc(1, sizeof *r);
    ASSERT(r);
    r->kv.ops = &rocks_ops;
    r->db_path = path_of(options->dir, "db");
    r->info_log_path = path_of(options->dir, "rocksdb-log");
    r->cache = rocksdb_cache_create_lru(options->cache_bytes);
    r->options = database_options(r, options);
    if (!options->read_only) {
        r->guard = kv_guard_new(r->db_path, note_failed_file);
        rocksdb_options_set_env(r->options, kv_guard_env(r->guard));
    }
    for (unsigned f = 0; f < FAMILIES; f++) r->family_options[f] = family_options(r, f, options);
    r->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(r->write_options, 0);
    r->get_options = rocksdb_readoptions_create();
    return r;
}

static void rocks_free(struct rocks *r)
{
    /* A family's handle that outlives the database is an assertion failure in builds that have them on. */
    for (unsigned f = 0; f < FAMILIES; f++)
        if (r->family[f]) rocksdb_column_family_handle_destroy(r->family[f]);
    if (r->db) rocksdb_close(r->db);
    rocksdb_readoptions_destroy(r->get_options);
    rocksdb_writeoptions_destroy(r->write_options);
    for (unsigned f = 0; f < FAMILIES; f++) rocksdb_options_destroy(r->family_options[f]);
    rocksdb_options_destroy(r->options);
    if (r->guard) kv_guard_free(r->guard);
    rocksdb_cache_destroy(r->cache);
    free(r->db_path);
    free(r->info_log_path);
    free(r);
}

/* A family that this program does not know was made by a newer one. RocksDB would refuse to open without it, in words
 * that do not say so. */
static enum status find_unknown_family(struct rocks *r, char *why, size_t why_len)
{
    char current[PATH_BYTES_MAX];
    ASSERT(snprintf(current, sizeof current, "%s/CURRENT", r->db_path) < (int)sizeof current);
    if (access(current, F_OK) != 0) { /* no database yet, or a place where opening will fail */
        if (!has_tables(r->db_path)) return STATUS_OK;
        /* RocksDB would begin a new database and remove the old one's tables. */
        snprintf(why, why_len, "%s is missing beside tables of a database: its files are damaged; restore the store "
                               "from a backup", current);
        return STATUS_CORRUPT;
    }

    char *error = NULL;
    size_t count = 0;
    char **names = rocksdb_list_column_families(r->options, r->db_path, &count, &error);
    if (error) {
        snprintf(why, why_len, "%s cannot be read (%s); restore the store from a backup", r->db_path, error);
        rocksdb_list_column_families_destroy(names, count);
        return refusal_of(error);
    }
    enum status s = STATUS_OK;
    for (size_t i = 0; i < count; i++) {
        unsigned f = 0;
        while (f < FAMILIES && strcmp(names[i], family_name(f)) != 0) f++;
        if (f < FAMILIES) continue;
        snprintf(why, why_len, "%s holds rows of a kind this version does not know (%s); run the newer version",
                 r->db_path, names[i]);
        s = STATUS_NEWER;
    }
    rocksdb_list_column_families_destroy(names, count);
    return s;
}

static bool has_tables(const char *db_path)
{
    bool found = false;
    DIR *files = opendir(db_path);
    for (struct dirent *e; files && !found && (e = readdir(files));) {
        size_t len = strlen(e->d_name);
        found = len > 4 && (strcmp(e->d_name + len - 4, ".sst") == 0 || strcmp(e->d_name + len - 4, ".log") == 0);
    }
    if (files) closedir(files);
    return found;
}

static enum status open_database(struct rocks *r, bool read_only, char *why, size_t why_len)
{
    const char *names[FAMILIES];
    for (unsigned f = 0; f < FAMILIES; f++) names[f] = family_name(f);
    const rocksdb_options_t *const *options = (const rocksdb_options_t *const *)r->family_options;
    char *error = NULL;
    if (read_only)
        r->db = rocksdb_open_for_read_only_column_families(r->options, r->db_path, FAMILIES, names, options, r->family,
                                                           0, &error);
    else
        r->db = rocksdb_open_column_families(r->options, r->db_path, FAMILIES, names, options, r->family, &error);
    const char *failure = kv_guard_failure(r->guard); /* RocksDB may not know, or say less of it */
    if (!error && !failure) {
        if (r->guard) kv_guard_opened(r->guard);
        ASSERT(!r->guard || has_failed(r) || manifest_of(r).number); /* each opening writes one, through the guard */
        return STATUS_OK;
    }
    enum status s = refused_opening(r, failure ? failure : error, why, why_len);
    if (!r->db) memset(r->family, 0, sizeof r->family);
    rocksdb_free(error);
    return s;
}

static enum status refused_opening(const struct rocks *r, const char *error, char *why, size_t why_len)
{
    enum status s = classify(error);
    const char *advice = "see the line \"rocksdb_error\" above";
    switch ((int)s) {
    case STATUS_LOCKED: advice = "another process has it open: stop that one first"; break;
    case STATUS_NO_SPACE: advice = "the disk is full: make room and start again"; break;
    case STATUS_CORRUPT: advice = "its files are damaged: restore the store from a backup"; break;
    case STATUS_IO:
        advice = "check that the directory exists, is writable and that the disk works";
        if (strstr(error, "Too many open files")) advice = "raise the limit on open files (ulimit -n, LimitNOFILE=)";
        break;
    }
    snprintf(why, why_len, "%s cannot be opened (%s); %s", r->db_path, error, advice);
    return s;
}

static rocksdb_options_t *database_options(const struct rocks *r, const struct store_options *options)
{
    /* The one setting of the database that the C API has no function for; off, because it refuses stores after a
     * crash whose unsynced WAL was never promised to anyone. */
    rocksdb_options_t *o = options_from("track_and_verify_wals_in_manifest=false");
    rocksdb_options_set_create_if_missing(o, !options->read_only);
    rocksdb_options_set_create_missing_column_families(o, !options->read_only);
    rocksdb_options_set_max_open_files(o,
                                       (int)(options->open_files_max ? options->open_files_max : STORE_OPEN_FILES_MAX));
    /* Only what RocksDB writes at opening goes to its own log. In a build with assertions on, as Debian's, a second
     * line behind one that did not fit on the disk aborts: a full disk must come back as an error of a write. Errors
     * reach our log in status_of, sizes and stalls the metrics through kv_rocksdb_property. */
    rocksdb_options_set_db_log_dir(o, r->info_log_path);
    rocksdb_options_set_info_log_level(o, INFO_LOG_LEVEL_FATAL);
    rocksdb_options_set_max_log_file_size(o, STORE_INFO_LOG_BYTES_MAX);
    rocksdb_options_set_keep_log_file_num(o, STORE_INFO_LOGS_MAX);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);

    /* Durability. Each write goes to the WAL's file at once (manual flushing corrupts with several families in 7.8);
     * a fresh WAL file each time (a recycled one's old records can pass for new ones after a crash); what is cut off
     * by a bad record is found by the mark, not by RocksDB. */
    rocksdb_options_set_manual_wal_flush(o, 0);
    rocksdb_options_set_recycle_log_file_num(o, 0);
    rocksdb_options_set_atomic_flush(o, 0);
    rocksdb_options_set_wal_recovery_mode(o, PLANTED(torn_tail_replayed) ? rocksdb_skip_any_corrupted_records_recovery
                                                                         : rocksdb_point_in_time_recovery);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_max_total_wal_size(o, WAL_WRITE_BUFFERS * options->write_buffer_bytes);

    /* One thread writes: no memtable is filled concurrently, which the insert hints of the log need. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_enable_pipelined_write(o, 0);
    rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS);
    rocksdb_options_set_bytes_per_sync(o, FILE_BYTES_PER_SYNC);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1); /* starts without reading every table */
    return o;
}

static rocksdb_options_t *family_options(const struct rocks *r, unsigned family, const struct store_options *options)
{
    /* Rows of one room come in rising order: a hint kept for each (tenant, room) leads the memtable's skip list to the
     * place behind the room's last row.
     *
     * RocksDB (7.8) keeps one hint a prefix, but two skip lists: rows and range deletions. A range deletion that finds
     * a hint left by a row would be linked into the wrong list. The hint's prefix is therefore one byte longer than
     * (tenant, room), the first byte of seq, which is 0 anyway; a range that begins with a shorter key has no such
     * prefix and uses no hint (kv_range_valid). */
    bool is_log = family == KV_LOG;
    _Static_assert(KV_LOG_RANGE_FROM_MAX == 12, "one less than the hint's prefix");
    rocksdb_options_t *o = options_from(is_log ? "memtable_insert_with_hint_prefix_extractor=fixed:13" : "");
    rocksdb_options_set_write_buffer_size(o, is_log ? options->write_buffer_bytes : options->write_buffer_bytes / 4);
    rocksdb_options_set_max_write_buffer_number(o, is_log ? LOG_WRITE_BUFFERS : OTHER_WRITE_BUFFERS);
    /* What is only ever appended is not worth sorting again level by level: universal compaction writes each row a
     * few times instead of ten. What is overwritten stays small, and levels drop its old versions soon. */
    if (is_appended(family)) {
        rocksdb_options_set_compaction_style(o, rocksdb_universal_compaction);
    } else {
        rocksdb_options_set_compaction_style(o, rocksdb_level_compaction);
        rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    }
    /* Fresh files are merged again soon: compressing them would only slow the flush down. */
    static const int compression[] = {rocksdb_no_compression,  rocksdb_no_compression,  rocksdb_lz4_compression,
                                      rocksdb_lz4_compression, rocksdb_lz4_compression, rocksdb_lz4_compression,
                                      rocksdb_lz4_compression};
    rocksdb_options_set_compression_per_level(o, compression, sizeof compression / sizeof *compression);
    set_table(o, r, is_appended(family));
    return o;
}

/* Filters hold whole keys, for kv_get. A prefix filter could serve only walks without total order, and those may hide
 * rows when they go backwards or meet a bound of another prefix; every walk here is in total order, so there is no
 * prefix extractor for it either. */
static void set_table(rocksdb_options_t *o, const struct rocks *r, bool read_in_ranges)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, r->cache);
    rocksdb_block_based_options_set_block_size(table, read_in_ranges ? RANGE_BLOCK_BYTES : POINT_BLOCK_BYTES);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS_PER_KEY));
    rocksdb_block_based_options_set_whole_key_filtering(table, 1);
    rocksdb_block_based_options_set_format_version(table, 5);
    /* Index and filter blocks are charged to the cache, so that its size bounds all of it. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_options_set_block_based_table_factory(o, table); /* copies the table's options */
    rocksdb_block_based_options_destroy(table);
}

static rocksdb_options_t *options_from(const char *text)
{
    rocksdb_options_t *base = rocksdb_options_create();
    rocksdb_options_t *o = rocksdb_options_create();
    char *error = NULL;
    rocksdb_get_options_from_string(base, text, o, &error);
    ASSERT(error == NULL); /* our own constant text */
    rocksdb_options_destroy(base);
    return o;
}

static const char *family_name(unsigned family)
{
    return family == DEFAULT_FAMILY ? "default" : kv_cf_name((enum kv_cf)family);
}

static bool is_appended(unsigned family)
{
    return family == KV_LOG || family == KV_CHANGES || family == KV_IDEMPOTENCY || family == KV_AUDIT;
}

/* has_failed: nothing is written or synced any more, nor shown as durable. */
static bool has_failed(const struct rocks *r)
{
    return atomic_load_explicit(&r->failed, memory_order_acquire) || kv_guard_failure(r->guard);
}

static struct kv_manifest manifest_of(const struct rocks *r)
{
    struct kv_manifest m = {0};
    if (r->guard) kv_guard_manifest(r->guard, &m.number, &m.bytes);
    return m;
}

static void note_failed_file(const char *path, const char *detail)
{
    LOG(LOG_ERROR, "store", "rocksdb_stopped", LOG_STR("file", path), LOG_STR("detail", detail));
}

/* status_of logs RocksDB's text, frees it and says what kind of error it is; NULL is no error. */
static enum status status_of(const char *operation, char *error)
{
    if (LIKELY(error == NULL)) return STATUS_OK;
    enum status s = told(operation, error);
    rocksdb_free(error);
    return s;
}

static enum status told(const char *operation, const char *error)
{
    enum status s = classify(error);
    LOG(LOG_ERROR, "store", "rocksdb_error", LOG_STR("operation", operation), LOG_STR("status", status_name(s)),
        LOG_STR("detail", error));
    return s;
}

/* refusal_of does the same for the opening, whose error is in the sentence that the caller prints: told once. */
static enum status refusal_of(char *error)
{
    enum status s = classify(error);
    rocksdb_free(error);
    return s;
}

/* The C API hands errors over as text only: "<code>: <subcode>: <detail>", made by Status::ToString. */
static enum status classify(const char *error)
{
    if (strncmp(error, "Corruption", 10) == 0) return STATUS_CORRUPT;
    if (strstr(error, "No space left on device")) return STATUS_NO_SPACE;
    if (strstr(error, "lock hold by current process") || strstr(error, "While lock file")) return STATUS_LOCKED;
    return STATUS_IO;
}

static char *path_of(const char *dir, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    ASSERT(path.len < PATH_BYTES_MAX - 16);
    buf_char(&path, '\0');
    return path.data;
}

static struct kv_batch *rocks_batch_new(struct kv *kv)
{
    struct kv_batch *b = calloc(1, sizeof *b);
    ASSERT(b);
    b->rocks = (struct rocks *)kv;
    b->rows = rocksdb_writebatch_create();
    return b;
}

static void rocks_batch_free(struct kv_batch *b)
{
    if (!b) return;
    rocksdb_writebatch_destroy(b->rows);
    free(b);
}

static void rocks_batch_clear(struct kv_batch *b) { rocksdb_writebatch_clear(b->rows); }

static void rocks_batch_put(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value)
{
    ASSERT(cf < KV_CFS && key.len > 0);
    rocksdb_writebatch_put_cf(b->rows, b->rocks->family[cf], key.data, key.len, value.data, value.len);
}

static void rocks_batch_delete(struct kv_batch *b, enum kv_cf cf, struct slice key)
{
    ASSERT(cf < KV_CFS && key.len > 0);
    rocksdb_writebatch_delete_cf(b->rows, b->rocks->family[cf], key.data, key.len);
}

static void rocks_batch_delete_range(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to)
{
    ASSERT(kv_range_valid(cf, from, to));
    rocksdb_writebatch_delete_range_cf(b->rows, b->rocks->family[cf], from.data, from.len, to.data, to.len);
}

static enum status rocks_write(struct kv *kv, struct kv_batch *b)
{
    struct rocks *r = (struct rocks *)kv;
    ASSERT(b->rocks == r);
    if (has_failed(r)) return STATUS_READ_ONLY;
    char *error = NULL;
    rocksdb_write(r->db, r->write_options, b->rows, &error);
    return outcome(r, "write", error, kv_guard_failure(r->guard));
}

/* outcome of a write or a sync: what RocksDB says of it, and what the guard has kept from RocksDB. */
static enum status outcome(struct rocks *r, const char *operation, char *error, const char *failure)
{
    if (LIKELY(!error && !failure)) return STATUS_OK;
    atomic_store_explicit(&r->failed, true, memory_order_release);
    enum status s = told(operation, failure ? failure : error); /* the cause, rather than that RocksDB was stopped */
    rocksdb_free(error);
    return s;
}

/* After a failed sync the kernel may have dropped the pages, and the next one would succeed. After a write that failed
 * in RocksDB itself, as where it cannot create a file, it may repair itself and sync a WAL without the failed rows, as
 * if all were well. Either way the answer stays no. */
static enum status rocks_sync(struct kv *kv)
{
    struct rocks *r = (struct rocks *)kv;
    if (has_failed(r)) return STATUS_READ_ONLY;
    char *error = NULL;
    rocksdb_flush_wal(r->db, 1, &error);
    return outcome(r, "flush_wal", error, kv_guard_failure_at_rest(r->guard));
}

static uint64_t rocks_sequence(struct kv *kv) { return rocksdb_get_latest_sequence_number(((struct rocks *)kv)->db); }

static enum status rocks_get(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out)
{
    struct rocks *r = (struct rocks *)kv;
    ASSERT(cf < KV_CFS);
    out->len = 0;
    char *error = NULL;
    rocksdb_pinnableslice_t *pinned =
        rocksdb_get_pinned_cf(r->db, r->get_options, r->family[cf], key.data, key.len, &error);
    if (error) return status_of("get", error);
    if (!pinned) return STATUS_NOT_FOUND;
    size_t len = 0;
    const char *value = rocksdb_pinnableslice_value(pinned, &len);
    buf_append(out, value, len);
    rocksdb_pinnableslice_destroy(pinned);
    return STATUS_OK;
}

static struct kv_iter *rocks_iter_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    struct rocks *r = (struct rocks *)kv;
    ASSERT(cf < KV_CFS);
    struct kv_iter *i = calloc(1, sizeof *i);
    ASSERT(i);
    buf_slice_append(&i->lower, lower);
    buf_slice_append(&i->upper, upper);
    i->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_total_order_seek(i->options, 1);
    if (lower.len) rocksdb_readoptions_set_iterate_lower_bound(i->options, i->lower.data, i->lower.len);
    if (upper.len) rocksdb_readoptions_set_iterate_upper_bound(i->options, i->upper.data, i->upper.len);
    i->rows = rocksdb_create_iterator_cf(r->db, i->options, r->family[cf]);
    return i;
}

static bool rocks_iter_first(struct kv_iter *i)
{
    rocksdb_iter_seek_to_first(i->rows);
    return rocksdb_iter_valid(i->rows);
}

static bool rocks_iter_last(struct kv_iter *i)
{
    rocksdb_iter_seek_to_last(i->rows);
    return rocksdb_iter_valid(i->rows);
}

static bool rocks_iter_next(struct kv_iter *i)
{
    ASSERT(rocksdb_iter_valid(i->rows));
    rocksdb_iter_next(i->rows);
    return rocksdb_iter_valid(i->rows);
}

static bool rocks_iter_prev(struct kv_iter *i)
{
    ASSERT(rocksdb_iter_valid(i->rows));
    rocksdb_iter_prev(i->rows);
    return rocksdb_iter_valid(i->rows);
}

static struct slice rocks_iter_key(struct kv_iter *i)
{
    ASSERT(rocksdb_iter_valid(i->rows));
    size_t len = 0;
    const char *key = rocksdb_iter_key(i->rows, &len);
    return slice_of(key, len);
}

static struct slice rocks_iter_value(struct kv_iter *i)
{
    ASSERT(rocksdb_iter_valid(i->rows));
    size_t len = 0;
    const char *value = rocksdb_iter_value(i->rows, &len);
    return slice_of(value, len);
}

static enum status rocks_iter_close(struct kv_iter *i)
{
    char *error = NULL;
    rocksdb_iter_get_error(i->rows, &error);
    rocksdb_iter_destroy(i->rows);
    rocksdb_readoptions_destroy(i->options);
    buf_free(&i->lower);
    buf_free(&i->upper);
    free(i);
    return status_of("iterate", error);
}

static void rocks_close(struct kv *kv) { rocks_free((struct rocks *)kv); }

static void rocks_manifest(struct kv *kv, struct kv_manifest *out) { *out = manifest_of((struct rocks *)kv); }

static const struct kv_ops rocks_ops = {
    .batch_new = rocks_batch_new,
    .batch_free = rocks_batch_free,
    .batch_clear = rocks_batch_clear,
    .batch_put = rocks_batch_put,
    .batch_delete = rocks_batch_delete,
    .batch_delete_range = rocks_batch_delete_range,
    .write = rocks_write,
    .sync = rocks_sync,
    .sequence = rocks_sequence,
    .get = rocks_get,
    .iter_open = rocks_iter_open,
    .iter_first = rocks_iter_first,
    .iter_last = rocks_iter_last,
    .iter_next = rocks_iter_next,
    .iter_prev = rocks_iter_prev,
    .iter_key = rocks_iter_key,
    .iter_value = rocks_iter_value,
    .iter_close = rocks_iter_close,
    .close = rocks_close,
    .manifest = rocks_manifest,
};
