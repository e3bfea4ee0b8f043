#include "manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/base/assert.h"

#define PATH_BYTES_MAX 4096
#define CHUNK_BYTES (64u << 10)
#define LOOK_BYTES_MAX (16u << 20) /* of one look, which delays acknowledgements: some 50 ms; the next one goes on */

static struct kv_manifest synced_manifest(const struct manifest_watch *w);
static uint64_t current_number(const char *db);
static int manifest_open(const char *db, uint64_t number);
static bool hash_range(SHA256_CTX *hash, int fd, uint64_t from, uint64_t to);
static void hash_end(uint8_t out[8], SHA256_CTX hash);

void manifest_watch_open(struct manifest_watch *w, const char *dir, struct kv *kv)
{
    size_t len = strlen(dir) + sizeof "/db";
    *w = (struct manifest_watch){._db = malloc(len), ._kv = kv};
    ASSERT(w->_db);
    snprintf(w->_db, len, "%s/db", dir);
}

void manifest_watch_close(struct manifest_watch *w)
{
    free(w->_db);
    w->_db = NULL;
}

void manifest_look(struct manifest_watch *w)
{
    struct kv_manifest synced = synced_manifest(w);
    bool is_new = synced.number != w->print.number;
    struct manifest_print print = {.number = synced.number, .bytes = is_new ? 0 : w->print.bytes};
    if (synced.number == 0 || synced.bytes <= print.bytes) return;
    /* One that CURRENT does not name yet may never come to be the store's. */
    int fd = synced.number == current_number(w->_db) ? manifest_open(w->_db, synced.number) : -1;
    if (fd < 0) return;
    SHA256_CTX hash = w->_hash;
    if (is_new) SHA256_Init(&hash);
    uint64_t end = synced.bytes - print.bytes > LOOK_BYTES_MAX ? print.bytes + LOOK_BYTES_MAX : synced.bytes;
    if (hash_range(&hash, fd, print.bytes, end)) {
        print.bytes = end;
        hash_end(print.hash, hash);
        w->print = print;
        w->_hash = hash;
    }
    close(fd);
}

enum status manifest_check(const struct manifest_print *print, const char *dir, char *why, size_t why_len)
{
    char db[PATH_BYTES_MAX];
    if (!print->number || snprintf(db, sizeof db, "%s/db", dir) >= (int)sizeof db) return STATUS_OK;
    uint64_t number = current_number(db);
    int fd = number == print->number ? manifest_open(db, number) : -1;
    if (number == 0 || number > print->number || (number == print->number && fd < 0)) return STATUS_OK;

    struct stat st;
    SHA256_CTX hash;
    uint8_t found[8];
    SHA256_Init(&hash);
    bool whole = fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= print->bytes &&
                 hash_range(&hash, fd, 0, print->bytes);
    if (fd >= 0) close(fd);
    hash_end(found, hash);
    if (whole && memcmp(found, print->hash, sizeof found) == 0) return STATUS_OK;
    snprintf(why, why_len,
             "%s/MANIFEST-%06" PRIu64 " is not what it was: tables of the store would be taken for rubbish and "
             "removed; "
             "restore the store from a backup, or copy it and remove the file MARK to go on without what is missing",
             db, print->number);
    return STATUS_CORRUPT;
}

/* synced_manifest asks the database; without one, all that is there counts. */
static struct kv_manifest synced_manifest(const struct manifest_watch *w)
{
    if (w->_kv) return kv_manifest(w->_kv);
    struct stat st;
    struct kv_manifest m = {.number = current_number(w->_db)};
    int fd = m.number ? manifest_open(w->_db, m.number) : -1;
    if (fd < 0) return (struct kv_manifest){0};
    if (fstat(fd, &st) == 0) m.bytes = (uint64_t)st.st_size;
    close(fd);
    return m;
}

/* current_number reads "MANIFEST-000005\n" out of CURRENT; 0 when it is not there or says something else. */
static uint64_t current_number(const char *db)
{
    char path[PATH_BYTES_MAX], text[64] = "", end = '\0';
    uint64_t number = 0;
    if (snprintf(path, sizeof path, "%s/CURRENT", db) >= (int)sizeof path) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0 || sscanf(text, "MANIFEST-%" SCNu64 "%c", &number, &end) != 2 || end != '\n') return 0;
    return number;
}

static int manifest_open(const char *db, uint64_t number)
{
    char path[PATH_BYTES_MAX];
    if (snprintf(path, sizeof path, "%s/MANIFEST-%06" PRIu64, db, number) >= (int)sizeof path) return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool hash_range(SHA256_CTX *hash, int fd, uint64_t from, uint64_t to)
{
    uint8_t chunk[CHUNK_BYTES];
    while (from < to) {
        size_t want = to - from < sizeof chunk ? (size_t)(to - from) : sizeof chunk;
        ssize_t n = pread(fd, chunk, want, (off_t)from);
        if (n <= 0) return false;
        SHA256_Update(hash, chunk, (size_t)n);
        from += (uint64_t)n;
    }
    return true;
}

/* hash_end takes a copy, so that the caller's goes on. */
static void hash_end(uint8_t out[8], SHA256_CTX hash)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, &hash);
    memcpy(out, digest, 8);
}
