/* Fuzzes the settings (src/config.h). The input is a file, and each of its lines also an argument of --set, a variable
 * and the forms that stand in values: address, network, time of day, list. What holds:
 * - a file that is refused is refused with its path and a line that it has; one that is taken prints as a file that
 * reads back the same, and printing that gives the same bytes;
 * - each value, given by --set or as a variable, is the one that the file gave; what the file does not set is the
 * default;
 * - settings that do not go together are refused with the name of a setting, and with the line that set it;
 * - a secret is never told, neither in what is printed nor in what is said about it. */
#define _GNU_SOURCE /* memfd_create, memmem */
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../src/base/assert.h"
#include "../src/base/log.h"
#include "../src/config.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define LINES_MAX 6u /* of an input, that are also looked at alone: each takes a set of settings */

static char path[64]; /* of a file in memory */
static int file = -1;

static void drop_line(struct slice line)
{
    (void)line;
}
static const struct log_sink nowhere = {drop_line, NULL};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    log_set_sink(&nowhere); /* unknown variables are warned of */
    file = memfd_create("config", MFD_CLOEXEC);
    ASSERT(file >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return 0;
}

static enum status load(struct config *c, struct slice text, struct config_error *err)
{
    ASSERT(ftruncate(file, 0) == 0);
    if (text.len) ASSERT(pwrite(file, text.data, text.len, 0) == (ssize_t)text.len);
    config_defaults(c);
    return config_load_file(c, path, err);
}

/* names_a_place: "path:LINE: " and a sentence. */
static bool names_a_place(const struct config_error *err, unsigned num_lines)
{
    size_t len = strlen(path);
    if (strncmp(err->text, path, len) != 0 || err->text[len] != ':') return false;
    char *end;
    unsigned long line = strtoul(err->text + len + 1, &end, 10);
    return line >= 1 && line <= num_lines && strncmp(end, ": ", 2) == 0 && end[2];
}

static bool names_a_setting(const char *text)
{
    for (unsigned id = 0; id < SETTINGS; id++)
        if (strncmp(text, settings[id].name, strlen(settings[id].name)) == 0) return true;
    return false;
}

static char *printed(const struct config *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ASSERT(out != NULL);
    config_print(out, c);
    fclose(out);
    ASSERT(strlen(text) == len);
    return text;
}

static void reads_back(const struct config *c)
{
    struct config again;
    struct config_error err;
    char *text = printed(c);
    ASSERT(load(&again, slice_str(text), &err) == STATUS_OK);
    for (unsigned id = 0; id < SETTINGS; id++)
        ASSERT(settings[id].type == SETTING_SECRET || config_same(c, &again, (enum setting_id)id));
    char *text_again = printed(&again);
    ASSERT(strcmp(text, text_again) == 0);
    free(text_again);
    free(text);
    config_free(&again);
}

static char *joined(const char *a, const char *b, struct slice c)
{
    struct buf text = {0};
    buf_printf(&text, "%s%s", a, b);
    buf_slice_append(&text, c);
    buf_char(&text, '\0');
    return text.data;
}

/* The same value by the two other ways. */
static void other_ways_agree(const struct config *c, enum setting_id id)
{
    struct config by_argument, by_variable;
    struct config_error err;
    struct buf value = {0};
    char name[64];
    config_defaults(&by_argument);
    config_defaults(&by_variable);
    config_value(&value, c, id);
    snprintf(name, sizeof name, "CARILLON_%s", settings[id].name);
    for (char *at = name; *at; at++) *at = *at == '.' ? '_' : (char)toupper((unsigned char)*at);
    char *argument = joined(settings[id].name, "=", buf_slice(&value)),
         *variable = joined(name, "=", buf_slice(&value));
    ASSERT(config_set(&by_argument, argument, &err) == STATUS_OK && config_same(&by_argument, c, id));
    char *const environment[] = {variable, NULL};
    ASSERT(config_load_environment(&by_variable, environment, &err) == STATUS_OK && config_same(&by_variable, c, id));
    buf_free(&value);
    free(argument);
    free(variable);
    config_free(&by_argument);
    config_free(&by_variable);
}

static void check_taken(const struct config *c, unsigned num_lines)
{
    struct config standard;
    struct config_error err;
    config_defaults(&standard);
    for (unsigned id = 0; id < SETTINGS; id++) {
        ASSERT(c->file_line[id] <= num_lines);
        if (c->file_line[id] == 0)
            ASSERT(config_same(c, &standard, (enum setting_id)id));
        else if (settings[id].type != SETTING_SECRET)
            other_ways_agree(c, (enum setting_id)id);
    }
    reads_back(c);
    if (config_validate(c, &err) != STATUS_OK) {
        ASSERT(names_a_setting(err.text));
        struct config_error blamed = err;
        config_blame_file(&blamed, c, path);
        ASSERT(strcmp(blamed.text, err.text) == 0 || names_a_place(&blamed, num_lines));
    }
    config_free(&standard);
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static void check_address(struct slice text)
{
    struct sockaddr_storage address;
    socklen_t len;
    if (!config_address(text, &address, &len)) return;
    char host[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN + 16];
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    bool is_v4 = address.ss_family == AF_INET;
    ASSERT(inet_ntop(address.ss_family, is_v4 ? (const void *)&v4->sin_addr : &v6->sin6_addr, host, sizeof host));
    snprintf(again, sizeof again, is_v4 ? "%s:%u" : "[%s]:%u", host, ntohs(is_v4 ? v4->sin_port : v6->sin6_port));
    struct sockaddr_storage same;
    socklen_t same_len;
    ASSERT(config_address(slice_str(again), &same, &same_len) && same_len == len && memcmp(&same, &address, len) == 0);
}

/* A network has its own address, and its first address outside is the one with its last bit the other way. */
static void check_network(struct slice text)
{
    struct config_network n;
    if (!config_network(text, &n)) return;
    ASSERT(n.bits <= 128 && config_network_has(&n, n.address));
    if (n.bits == 0) return;
    uint8_t outside[16];
    memcpy(outside, n.address, 16);
    outside[(n.bits - 1) / 8] ^= (uint8_t)(0x80 >> (n.bits - 1) % 8);
    ASSERT(!config_network_has(&n, outside));
}

static void check_list(struct slice text)
{
    struct slice rest = text, item;
    while (config_list_next(&rest, &item)) {
        ASSERT(item.len > 0 && item.data >= text.data && item.data + item.len <= text.data + text.len);
        ASSERT(!memchr(item.data, ',', item.len) && !isspace((unsigned char)item.data[0]) &&
               !isspace((unsigned char)item.data[item.len - 1]));
        check_address(item);
        check_network(item);
    }
}

static void check_time(const char *text)
{
    unsigned minutes = UINT32_MAX;
    char again[16];
    if (!config_time_of_day(text, &minutes)) return;
    snprintf(again, sizeof again, "%02u:%02u", minutes / 60, minutes % 60);
    ASSERT(strcmp(text, again) == 0);
}

static void check_line(struct slice line)
{
    struct config c;
    struct config_error err;
    char *text = joined("", "", line), *variable = joined("CARILLON_", "", line);
    config_defaults(&c);
    if (config_set(&c, text, &err) == STATUS_OK)
        reads_back(&c);
    else
        ASSERT(strncmp(err.text, "--set: ", 7) == 0 && strlen(err.text) > 7);
    char *const environment[] = {variable, text, NULL};
    if (config_load_environment(&c, environment, &err) != STATUS_OK) ASSERT(strncmp(err.text, "CARILLON_", 9) == 0);
    config_free(&c);
    check_time(text);
    check_list(slice_str(text));
    check_address(line);
    check_network(line);
    free(text);
    free(variable);
}

/* A value that a secret is too long or too odd for is not told, wherever it stands in the line. */
static void check_secret(struct slice line)
{
    static const char name[] = "admin.master_key";
    char value[400];
    size_t len = line.len < sizeof value - 1 ? line.len : sizeof value - 1;
    for (size_t i = 0; i < len; i++) value[i] = (char)('A' + (unsigned char)line.data[i] % 26);
    if (len < 8) return;
    value[len / 2] = '\x01';
    struct config c;
    struct config_error err;
    char *argument = joined(name, "=", slice_of(value, len));
    config_defaults(&c);
    ASSERT(config_set(&c, argument, &err) == STATUS_INVALID);
    ASSERT(!memmem(err.text, strlen(err.text), value, len / 2));
    value[len / 2] = 'A';
    free(argument);
    argument = joined(name, "=", slice_of(value, len));
    if (config_set(&c, argument, &err) == STATUS_OK) {
        char *text = printed(&c);
        ASSERT(!memmem(text, strlen(text), value, len));
        free(text);
    }
    free(argument);
    config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice text = slice_of(data, len);
    unsigned num_lines = 1;
    for (size_t i = 0; i < len; i++) num_lines += data[i] == '\n';

    struct config c;
    struct config_error err = {""};
    switch (load(&c, text, &err)) {
    case STATUS_OK: check_taken(&c, num_lines); break;
    case STATUS_INVALID: ASSERT(names_a_place(&err, num_lines)); break;
    default: ASSERT(!"a file in memory can be read");
    }
    config_free(&c);

    struct slice rest = text;
    for (unsigned i = 0; i < LINES_MAX && rest.len; i++) {
        const char *end = memchr(rest.data, '\n', rest.len);
        struct slice line = slice_of(rest.data, end ? (size_t)(end - rest.data) : rest.len);
        check_line(line);
        if (i == 0) check_secret(line);
        rest = slice_from(rest, line.len + 1);
    }
    return 0;
}
