#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/base/log.h"
#include "../../src/config.h"

static struct config config;
static struct config_error err;
static char path[64];

static int config_open(void **state)
{
    config_defaults(&config);
    memset(&err, 0, sizeof err);
    strcpy(path, "/tmp/carillon-config-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int config_close(void **state)
{
    config_free(&config);
    return unlink(path);
}

static enum status load_bytes(const char *text, size_t len)
{
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
    return config_load_file(&config, path, &err);
}

static enum status load(const char *text)
{
    return load_bytes(text, strlen(text));
}

/* assert_error checks the sentence behind the file's name. */
static void assert_error(const char *expected)
{
    size_t len = strlen(path);
    const char *text = strncmp(err.text, path, len) == 0 ? err.text + len : err.text;
    if (strncmp(text, expected, strlen(expected)) != 0) fail_msg("\"%s\" does not begin \"%s\"", text, expected);
}

static void set(const char *assignment)
{
    if (config_set(&config, assignment, &err) != STATUS_OK) fail_msg("%s", err.text);
}

static void refused(const char *assignment, const char *sentence)
{
    assert_int_equal(config_set(&config, assignment, &err), STATUS_INVALID);
    assert_error(sentence);
}

static struct buf printed(void (*print)(FILE *out))
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    print(out);
    fclose(out);
    struct buf b = {0};
    buf_append(&b, text, len);
    free(text);
    return b;
}

/* other_value writes a value that the setting does not have by default. */
static void other_value(char *out, size_t out_len, const struct setting *s)
{
    size_t first = strcspn(s->unit, "|");
    bool is_first = strncmp(s->standard, s->unit, first) == 0 && !s->standard[first];
    switch (s->type) {
    case SETTING_STRING:
    case SETTING_SECRET:
    case SETTING_LIST: snprintf(out, out_len, "a ;#, [b] = c"); break;
    case SETTING_BOOL: snprintf(out, out_len, strcmp(s->standard, "true") == 0 ? "off" : "on"); break;
    case SETTING_ENUM:
        snprintf(out, out_len, "%.*s", is_first ? 99 : (int)first, is_first ? strrchr(s->unit, '|') + 1 : s->unit);
        break;
    case SETTING_U64:
    case SETTING_SIZE:
    case SETTING_DURATION_MS:
        snprintf(out, out_len, "%llu", (unsigned long long)s->max);
        if (strcmp(out, s->standard) == 0) snprintf(out, out_len, "%llu", (unsigned long long)s->min);
        break;
    }
}

static void print_config(FILE *out)
{
    config_print(out, &config);
}

/* --- the table ----------------------------------------------------------------------------------------------- */

static unsigned values_of(const char *list)
{
    unsigned n = 1;
    for (; *list; list++) n += *list == '|';
    return n;
}

static void rows_are_complete_and_grouped_by_section(void **state)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        assert_true(strlen(s->help) > 10 && s->help[strlen(s->help) - 1] == '.');
        assert_true(s->min <= s->max);
        for (const char *c = s->name; *c; c++)
            assert_true(islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_' || *c == '.');
        if (s->type == SETTING_ENUM)
            assert_int_equal(s->max + 1, values_of(s->unit));
        else
            assert_true(s->unit[0] || s->type == SETTING_BOOL);
        size_t section = strcspn(s->name, ".");
        if (!s->name[section]) section = 0;
        bool ended = false; /* a section that has ended does not begin again */
        for (unsigned j = i + 1; j < SETTINGS; j++) {
            assert_string_not_equal(s->name, settings[j].name);
            size_t other = strcspn(settings[j].name, ".");
            if (!settings[j].name[other]) other = 0;
            bool same = other == section && strncmp(s->name, settings[j].name, section) == 0;
            assert_false(same && ended);
            ended = ended || !same;
        }
    }
}

static void defaults_are_what_the_design_names(void **state)
{
    assert_int_equal(config.durability, CONFIG_DURABILITY_FSYNC);
    assert_string_equal(config.net_listen, "127.0.0.1:8080");
    assert_int_equal(config.net_zero_copy, CONFIG_ZERO_COPY_AUTO);
    assert_int_equal(config.net_idle_timeout, 60000);
    assert_int_equal(config.store_cache, 256u << 20);
    assert_string_equal(config.admin_master_key, "");
    assert_int_equal(config.log_level, LOG_INFO);
    assert_false(config.debug_echo);
    assert_int_equal(config.tls_min_version, CONFIG_TLS_1_3);
    assert_int_equal(config.limits_content_chars, 10000);
    assert_int_equal(config_validate(&config, &err), STATUS_OK);
}

static void enums_follow_the_order_of_their_rows(void **state)
{
    set("durability=fast");
    assert_int_equal(config.durability, CONFIG_DURABILITY_FAST);
    set("net.zero_copy=on");
    assert_int_equal(config.net_zero_copy, CONFIG_ZERO_COPY_ON);
    set("net.zero_copy=off");
    assert_int_equal(config.net_zero_copy, CONFIG_ZERO_COPY_OFF);
    set("tls.min_version=1.2");
    assert_int_equal(config.tls_min_version, CONFIG_TLS_1_2);
    set("log.level=error");
    assert_int_equal(config.log_level, LOG_ERROR);
    set("log.level=debug");
    assert_int_equal(config.log_level, LOG_DEBUG);
}

/* --- printing ------------------------------------------------------------------------------------------------ */

static void printed_defaults_load_as_the_defaults(void **state)
{
    struct buf defaults = printed(config_print_defaults), before = printed(print_config);
    set("net.listen=0.0.0.0:1");
    set("store.cache=1g");
    assert_int_equal(load_bytes(defaults.data, defaults.len), STATUS_OK);
    struct buf after = printed(print_config);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, after.len);
    buf_char(&defaults, '\0');
    for (unsigned i = 0; i < SETTINGS; i++) assert_non_null(strstr(defaults.data, settings[i].help));
    buf_free(&defaults);
    buf_free(&before);
    buf_free(&after);
}

/* Every setting is moved away from its default, printed, and read into fresh defaults: nothing may get lost. */
static void printed_values_load_as_the_same_values(void **state)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (s->type == SETTING_SECRET) continue;
        char text[128];
        int at = snprintf(text, sizeof text, "%s=", s->name);
        other_value(text + at, sizeof text - (size_t)at, s);
        set(text);
    }
    struct buf before = printed(print_config);
    config_free(&config);
    config_defaults(&config);
    assert_int_equal(load_bytes(before.data, before.len), STATUS_OK);
    struct buf after = printed(print_config);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, after.len);
    buf_free(&before);
    buf_free(&after);
}

static void numbers_print_in_their_largest_whole_unit(void **state)
{
    static const struct {
        const char *set, *shown;
        enum setting_id id;
    } cases[] = {{"store.cache=1024k", "1m", SETTING_ID_store_cache},
                 {"store.cache=1048577", "1048577", SETTING_ID_store_cache},
                 {"store.cache=2G", "2g", SETTING_ID_store_cache},
                 {"store.reserve=0", "0", SETTING_ID_store_reserve},
                 {"net.idle_timeout=120000", "2m", SETTING_ID_net_idle_timeout},
                 {"net.idle_timeout=1500ms", "1500ms", SETTING_ID_net_idle_timeout},
                 {"net.idle_timeout=3h", "3h", SETTING_ID_net_idle_timeout},
                 {"limits.ip_rate=1024", "1024", SETTING_ID_limits_ip_rate}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        set(cases[i].set);
        struct buf value = {0};
        config_value(&value, &config, cases[i].id);
        assert_true(slice_is(buf_slice(&value), cases[i].shown));
        buf_free(&value);
    }
}

static void a_secret_is_shown_nowhere(void **state)
{
    set("admin.master_key=hunter22hunter22");
    assert_string_equal(config.admin_master_key, "hunter22hunter22");
    struct buf text = printed(print_config);
    buf_char(&text, '\0');
    assert_null(strstr(text.data, "hunter22"));
    assert_non_null(strstr(text.data, "master_key = ********\n"));
    buf_free(&text);
    refused("admin.master_key=hunter22\thunter22", "--set: admin.master_key must be");
    assert_null(strstr(err.text, "hunter22"));
    assert_int_equal(load("[admin]\nmaster_key = hunter22\x01\n"), STATUS_INVALID);
    assert_null(strstr(err.text, "hunter22"));
}

/* --- the file ------------------------------------------------------------------------------------------------ */

static void a_file_sets_values_by_section_and_by_full_name(void **state)
{
    assert_int_equal(
        load("# comment\n; comment\ndurability = fast\nnet.send_buffer=64k\n\n[limits]\n  tenant_rate = 100  \r\n"
             "ip_rate: 7\n[store]\ndir = /var/lib/a b ; c # d"),
        STATUS_OK);
    assert_int_equal(config.durability, CONFIG_DURABILITY_FAST);
    assert_int_equal(config.net_send_buffer, 65536);
    assert_int_equal(config.limits_tenant_rate, 100);
    assert_int_equal(config.limits_ip_rate, 7);
    assert_string_equal(config.store_dir, "/var/lib/a b ; c # d");
    assert_int_equal(config.process_readers, 2);
}

static void a_fault_in_the_file_is_named_with_its_line(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"\n\n[net]\nlistn = x\n", ":4: there is no setting net.listn; did you mean net.listen?"},
        {"[net]\n\n# c\nlisten\n", ":4: the line is neither"},
        {"[net\nlisten = 127.0.0.1:1\n", ":1: the line is neither"},
        {"[process]\ncores = many\n", ":2: process.cores must be a whole number of cores from 0 to 64, not \"many\""},
        {"durability = fast\n\ndurability = fsync\n", ":3: durability is already set in line 1"},
        {"[net]\nlisten = 127.0.0.1:1\n  tls.listen = x\n",
         ":3: there is no setting net.tls.listen; did you mean net.listen?"},
        {"[log]\nlevel = Info\n", ":2: log.level must be one of debug, info, warn, error, not \"Info\""},
        {"tenant_rate = 1\n", ":1: there is no setting tenant_rate; did you mean limits.tenant_rate?"},
        {"[limit]\nip_rate = 1\n", ":2: there is no setting limit.ip_rate; did you mean limits.ip_rate?"},
        {"[weather]\nforecast = rain\n",
         ":2: there is no setting weather.forecast; \"carillon config --defaults\" shows all"},
        {"[store]\ndir =\n", ":2: store.dir must be a path, not empty"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(load(cases[i].text), STATUS_INVALID);
        assert_error(cases[i].sentence);
    }
}

static void loading_ends_at_the_first_fault(void **state)
{
    assert_int_equal(load("[limits]\nip_rate = 5\ntenant_rate = x\nip_handshakes = 6\n"), STATUS_INVALID);
    assert_error(":3: limits.tenant_rate");
    assert_int_equal(config.limits_ip_rate, 5);
    assert_int_equal(config.limits_ip_handshakes, 0);
}

static void long_lines_are_read_whole_or_refused(void **state)
{
    struct buf text = {0};
    BUF_LIT(&text, "[cors]\norigins = ");
    size_t start = text.len;
    while (text.len - start < 4000) BUF_LIT(&text, "https://chat.example.org,");
    size_t len = text.len - start;
    BUF_LIT(&text, "\n[limits]\nip_rate = 3\n");
    assert_int_equal(load_bytes(text.data, text.len), STATUS_OK);
    assert_int_equal(strlen(config.cors_origins), len);
    assert_int_equal(config.limits_ip_rate, 3);
    text.len = 0;
    BUF_LIT(&text, "durability = fast\n#");
    while (text.len < CONFIG_LINE_BYTES_MAX + 20) buf_char(&text, 'x');
    BUF_LIT(&text, "\n");
    assert_int_equal(load_bytes(text.data, text.len), STATUS_INVALID);
    assert_error(":2: the line is too long");
    buf_free(&text);
}

static void a_nul_byte_hides_nothing(void **state)
{
    static const char text[] = "[limits]\nip_rate = 3\0\nip_handshakes = 1\n";
    assert_int_equal(load_bytes(text, sizeof text - 1), STATUS_INVALID);
    assert_error(":2: the line holds a NUL byte");
}

static void a_file_that_cannot_be_read_is_an_io_error(void **state)
{
    assert_int_equal(config_load_file(&config, "/nonexistent/carillon.conf", &err), STATUS_IO);
    assert_error("/nonexistent/carillon.conf: the configuration file cannot be read: No such file");
    assert_int_equal(config_load_file(&config, "/tmp", &err), STATUS_IO);
    assert_error("/tmp: the configuration file cannot be read: Is a directory");
}

/* --- environment and --set ----------------------------------------------------------------------------------- */

static void every_setting_has_its_own_environment_name(void **state)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char entry[128];
        int at = snprintf(entry, sizeof entry, "CARILLON_%s=", s->name);
        for (char *c = entry; *c; c++) *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
        other_value(entry + at, sizeof entry - (size_t)at, s);
        char *environment[] = {entry, NULL};
        struct buf before = {0}, after = {0};
        for (unsigned j = 0; j < SETTINGS; j++) {
            before.len = after.len = 0;
            config_free(&config);
            config_defaults(&config);
            config_value(&before, &config, (enum setting_id)j);
            assert_int_equal(config_load_environment(&config, environment, &err), STATUS_OK);
            config_value(&after, &config, (enum setting_id)j);
            assert_true(slice_eq(buf_slice(&before), buf_slice(&after)) == (i != j));
        }
        buf_free(&before);
        buf_free(&after);
    }
}

static void the_environment_is_taken_by_prefix(void **state)
{
    char *good[] = {
        "PATH=/bin", "CARILLON_CONFIG=/etc/x", "CARILLON_LIMITS_IP_RATE=12", "CARILLON_DURABILITY=fast", "CARILLON",
        NULL};
    assert_int_equal(config_load_environment(&config, good, &err), STATUS_OK);
    assert_int_equal(config.limits_ip_rate, 12);
    assert_int_equal(config.durability, CONFIG_DURABILITY_FAST);
    char *unknown[] = {"CARILLON_LIMITS_IPRATE=1", "CARILLON_limits_ip_rate=2", "CARILLON_LIMITS_IP_HANDSHAKES=3",
                       NULL};
    assert_int_equal(config_load_environment(&config, unknown, &err),
                     STATUS_OK); /* warned of, and what follows counts */
    assert_int_equal(config.limits_ip_rate, 12);
    assert_int_equal(config.limits_ip_handshakes, 3);
    char *bad[] = {"CARILLON_LIMITS_IP_RATE=-1", NULL};
    assert_int_equal(config_load_environment(&config, bad, &err), STATUS_INVALID);
    assert_error("CARILLON_LIMITS_IP_RATE: limits.ip_rate must be a whole number");
}

static void set_takes_one_assignment(void **state)
{
    set(" store.dir = /a=b ");
    assert_string_equal(config.store_dir, "/a=b");
    refused("store.dir", "--set: the form is section.key=value");
    refused("=1", "--set: there is no setting ");
    refused("STORE.DIR=1", "--set: there is no setting STORE.DIR");
}

static void a_refused_value_changes_nothing(void **state)
{
    struct buf before = printed(print_config);
    refused("store.dir=a\nb", "--set: store.dir must be");
    refused("store.cache=", "--set: store.cache must be");
    refused("store.cache=12q",
            "--set: store.cache must be a size in bytes, or with k, m, g, from 1m to 1024g, not \"12q\"");
    refused("store.cache=18446744073709551615g", "--set: store.cache must be");
    refused("store.reserve=17179869184g", "--set: store.reserve must be"); /* 2^64 bytes, where 0 is allowed */
    refused("store.cache=1k", "--set: store.cache must be");
    refused("net.idle_timeout=1d", "--set: net.idle_timeout must be a time");
    refused("net.idle_timeout=999ms", "--set: net.idle_timeout must be a time");
    refused("process.cores=65", "--set: process.cores must be");
    refused("process.cores=0x1", "--set: process.cores must be");
    refused("process.cores=1k", "--set: process.cores must be");
    refused("process.cores=-1", "--set: process.cores must be");
    refused("debug.echo=maybe", "--set: debug.echo must be true or false, not \"maybe\"");
    refused("net.zero_copy=aut", "--set: net.zero_copy must be one of auto, on, off");
    refused("net.zero_copy=auto|on", "--set: net.zero_copy must be one of");
    struct buf after = printed(print_config);
    assert_true(slice_eq(buf_slice(&before), buf_slice(&after)));
    buf_free(&before);
    buf_free(&after);
}

static void booleans_have_four_spellings(void **state)
{
    static const char *const yes[] = {"true", "on", "yes", "1", "TRUE"};
    static const char *const no[] = {"false", "off", "no", "0", "Off"};
    for (unsigned i = 0; i < 5; i++) {
        char text[32];
        snprintf(text, sizeof text, "debug.echo=%s", yes[i]);
        set(text);
        assert_true(config.debug_echo);
        snprintf(text, sizeof text, "debug.echo=%s", no[i]);
        set(text);
        assert_false(config.debug_echo);
    }
}

static void texts_are_bounded(void **state)
{
    char text[CONFIG_VALUE_BYTES_MAX + 64];
    size_t at = (size_t)snprintf(text, sizeof text, "store.dir=");
    memset(text + at, 'd', CONFIG_VALUE_BYTES_MAX);
    text[at + CONFIG_VALUE_BYTES_MAX] = '\0';
    set(text);
    text[at + CONFIG_VALUE_BYTES_MAX] = 'd';
    text[at + CONFIG_VALUE_BYTES_MAX + 1] = '\0';
    refused(text, "--set: store.dir must be a path");
    char socket[] =
        "admin.socket=/"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    refused(socket, "--set: admin.socket must be a path, at most 107 bytes");
}

/* --- the settings together ----------------------------------------------------------------------------------- */

static void settings_that_contradict_each_other_are_refused(void **state)
{
    static const struct {
        const char *set[4];
        const char *sentence; /* NULL: valid */
    } cases[] = {
        {{"debug.echo=on"}, NULL},
        {{"debug.echo=on", "net.listen=127.0.0.1:0, [::1]:8080, 127.255.0.1:1,[::ffff:127.0.0.1]:2"}, NULL},
        {{"debug.echo=on", "net.listen=127.0.0.1:0,0.0.0.0:80"}, "debug.echo is for tests"},
        {{"debug.echo=on", "net.listen=0.0.0.0:80,127.0.0.1:0"}, "debug.echo is for tests"},
        {{"debug.echo=on", "net.listen=[::]:80"}, "debug.echo is for tests"},
        {{"debug.echo=on", "tls.listen=192.0.2.1:443", "tls.cert=a", "tls.key=b"}, "debug.echo is for tests"},
        {{"net.listen="}, "net.listen and tls.listen are both empty"},
        {{"net.listen= , ,"}, "net.listen and tls.listen are both empty"},
        {{"net.listen=", "tls.listen=0.0.0.0:443", "tls.cert=a", "tls.key=b"}, "tls.listen is not served"},
        {{"net.zero_copy=on"}, NULL},
        {{"net.zero_copy=off"}, NULL},
        {{"auth.query_token=on"}, "auth.query_token is not served"},
        {{"limits.tenant_rate=5", "limits.ip_rate=5", "limits.ip_handshakes=5"}, NULL},
        {{"net.listen=localhost:80"},
         "net.listen: \"localhost:80\" is not a numeric ADDR:PORT or [V6]:PORT; for example 127.0.0.1:8081"},
        {{"tls.listen=127.0.0.1:443"}, "tls.listen is not served"},
        {{"tls.cert=a"}, "tls.cert is not served"},
        {{"tls.key=a"}, "tls.key is not served"},
        {{"net.ping_interval=60s"}, "net.ping_interval must be shorter than net.idle_timeout"},
        {{"backup.dir=b", "backup.at=03:30"}, NULL},
        {{"backup.dir=b", "backup.interval=1h"}, NULL},
        {{"backup.dir=b", "backup.at=24:00"}, "backup.at: \"24:00\" is no time of day"},
        {{"backup.dir=b", "backup.at=3:30"}, "backup.at: \"3:30\" is no time of day"},
        {{"backup.dir=b", "backup.at=03:30", "backup.interval=1h"}, "backup.at and backup.interval are two ways"},
        {{"backup.at=03:30"}, "backup.at needs backup.dir"},
        {{"backup.interval=1h"}, "backup.interval needs backup.dir"},
        {{"backup.dir=./carillon-data"}, "backup.dir lies in store.dir"},
        {{"store.dir=/srv//c/", "backup.dir=/srv/c/b"}, "backup.dir lies in store.dir"},
        {{"store.reserve=127m"}, "store.reserve must be at least twice store.write_buffer"},
        {{"store.reserve=128m"}, NULL},
        {{"store.reserve=0"}, NULL},
        {{"limits.trusted_networks=10.0.0.0/8, fe80::/10,::1, 192.0.2.7"}, NULL},
        {{"limits.trusted_networks=10.0.0.0/33"}, "limits.trusted_networks: \"10.0.0.0/33\" is not ADDR or ADDR/BITS"},
        {{"cors.origins=https://a.example, http://localhost:3000,http://[::1]:8080, *"}, NULL},
        {{"cors.origins=https://a.example/"}, "cors.origins: \"https://a.example/\" is not SCHEME://HOST"},
        {{"cors.origins=a.example"}, "cors.origins:"},
        {{"cors.origins=https://A.example"}, "cors.origins:"},
        {{"cors.origins=https://"}, "cors.origins:"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        config_free(&config);
        config_defaults(&config);
        for (unsigned j = 0; j < 4 && cases[i].set[j]; j++) set(cases[i].set[j]);
        enum status got = config_validate(&config, &err);
        if (got != (cases[i].sentence ? STATUS_INVALID : STATUS_OK)) fail_msg("%s: %d", cases[i].set[0], got);
        if (cases[i].sentence) assert_error(cases[i].sentence);
    }
}

static void lists_are_walked_item_by_item(void **state)
{
    struct slice rest = slice_str(" a, b c ,,\t,d,"), item;
    assert_true(config_list_next(&rest, &item) && slice_is(item, "a"));
    assert_true(config_list_next(&rest, &item) && slice_is(item, "b c"));
    assert_true(config_list_next(&rest, &item) && slice_is(item, "d"));
    assert_false(config_list_next(&rest, &item));
    assert_false(config_list_next(&rest, &item));
}

static void addresses_are_numeric_with_a_port(void **state)
{
    struct sockaddr_storage address;
    socklen_t len;
    assert_true(config_address(SLICE("192.0.2.1:8080"), &address, &len));
    struct sockaddr_in v4;
    memcpy(&v4, &address, sizeof v4);
    assert_int_equal(len, sizeof v4);
    assert_int_equal(v4.sin_family, AF_INET);
    assert_int_equal(ntohs(v4.sin_port), 8080);
    assert_int_equal(ntohl(v4.sin_addr.s_addr), 0xC0000201);
    assert_true(config_address(SLICE("[2001:db8::2]:0"), &address, &len));
    struct sockaddr_in6 v6;
    memcpy(&v6, &address, sizeof v6);
    assert_int_equal(len, sizeof v6);
    assert_int_equal(v6.sin6_family, AF_INET6);
    assert_int_equal(v6.sin6_port, 0);
    assert_int_equal(v6.sin6_addr.s6_addr[15], 2);
    static const char *const bad[] = {"",
                                      ":",
                                      "1.2.3.4",
                                      "1.2.3.4:",
                                      ":80",
                                      "1.2.3.4:65536",
                                      "1.2.3.4:x",
                                      "1.2.3:80",
                                      "::1:80",
                                      "[::1]",
                                      "[::1]80",
                                      "[1.2.3.4]:80",
                                      "[]:80",
                                      "[::1:80",
                                      "1.2.3.4:-1",
                                      "1.2.3.4:80 ",
                                      "[2001:0db8:0000:0000:0000:0000:0000:00001111111111111111111111111111]:80"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(config_address(slice_str(bad[i]), &address, &len));
}

static bool contains(const char *network, const char *peer)
{
    struct config_network n;
    struct sockaddr_storage address;
    socklen_t len;
    assert_true(config_network(slice_str(network), &n));
    assert_true(config_address(slice_str(peer), &address, &len));
    return config_network_contains(&n, &address);
}

static void networks_contain_what_shares_their_bits(void **state)
{
    assert_true(contains("127.0.0.0/8", "127.255.255.255:1"));
    assert_false(contains("127.0.0.0/8", "128.0.0.0:1"));
    assert_true(contains("127.0.0.0/8", "[::ffff:127.0.0.1]:1"));
    assert_false(contains("127.0.0.0/8", "[7f00::]:1"));
    assert_true(contains("192.0.2.64/26", "192.0.2.127:1"));
    assert_false(contains("192.0.2.64/26", "192.0.2.128:1"));
    assert_false(contains("192.0.2.64/26", "192.0.2.63:1"));
    assert_true(contains("192.0.2.7", "192.0.2.7:1"));
    assert_false(contains("192.0.2.7", "192.0.2.6:1"));
    assert_true(contains("0.0.0.0/0", "203.0.113.9:1"));
    assert_false(contains("0.0.0.0/0", "[2001:db8::1]:1"));
    assert_true(contains("::/0", "203.0.113.9:1"));
    assert_true(contains("2001:db8:8000::/33", "[2001:db8:ffff::1]:1"));
    assert_false(contains("2001:db8:8000::/33", "[2001:db8:7fff::1]:1"));
    assert_true(contains("::1", "[::1]:1"));
    struct config_network n;
    static const char *const bad[] = {"",        "/",       "/8",        "1.2.3.4/",    "1.2.3.4/33",
                                      "::1/129", "1.2.3/8", "1.2.3.4/x", "1.2.3.4/8/8", "a"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(config_network(slice_str(bad[i]), &n));
    struct sockaddr_storage local = {.ss_family = AF_UNIX};
    assert_true(config_network(SLICE("::/0"), &n));
    assert_false(config_network_contains(&n, &local));
}

static void a_zeroed_config_may_be_freed(void **state)
{
    struct config zero = {0};
    config_free(&zero);
    config_free(&zero);
}

#define CONFIG_TEST(name) cmocka_unit_test_setup_teardown(name, config_open, config_close)

static void a_setting_is_taken_over_alone(void **state)
{
    struct config running, fresh;
    config_defaults(&running);
    config_defaults(&fresh);
    assert_int_equal(config_set(&fresh, "log.access=all", &err), STATUS_OK);
    assert_int_equal(config_set(&fresh, "log.file=/var/log/carillon.log", &err), STATUS_OK);
    assert_int_equal(config_set(&fresh, "admin.master_key=other", &err), STATUS_OK);
    assert_int_equal(config_set(&fresh, "limits.send_queue=2m", &err), STATUS_OK);
    for (unsigned id = 0; id < SETTINGS; id++) {
        bool differs = id == SETTING_ID_log_access || id == SETTING_ID_log_file || id == SETTING_ID_admin_master_key ||
                       id == SETTING_ID_limits_send_queue;
        assert_int_equal(config_same(&running, &fresh, (enum setting_id)id), !differs);
    }
    config_take(&running, &fresh, SETTING_ID_log_access);
    config_take(&running, &fresh, SETTING_ID_log_file);
    config_take(&running, &fresh, SETTING_ID_limits_send_queue);
    assert_int_equal(CONFIG_NOW(&running, log_access), CONFIG_ACCESS_ALL);
    assert_int_equal(CONFIG_NOW(&running, limits_send_queue), 2 << 20);
    assert_string_equal(running.log_file, "/var/log/carillon.log");
    assert_string_equal(fresh.log_file, ""); /* exchanged, so each is freed once */
    assert_string_equal(running.admin_master_key, "");
    config_free(&running);
    config_free(&fresh);
}

static void levels_of_scopes_are_checked(void **state)
{
    struct config c;
    config_defaults(&c);
    assert_int_equal(config_set(&c, "log.scopes=net=debug,store=warn", &err), STATUS_OK);
    assert_int_equal(config_validate(&c, &err), STATUS_OK);
    assert_int_equal(config_set(&c, "log.scopes=net=debug,nett=warn", &err), STATUS_OK);
    assert_int_equal(config_validate(&c, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "log.scopes: \"nett=warn\" is not"));
    assert_non_null(strstr(err.text, " net,"));
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_setting_is_taken_over_alone),
        cmocka_unit_test(levels_of_scopes_are_checked),
        CONFIG_TEST(rows_are_complete_and_grouped_by_section),
        CONFIG_TEST(defaults_are_what_the_design_names),
        CONFIG_TEST(enums_follow_the_order_of_their_rows),
        CONFIG_TEST(printed_defaults_load_as_the_defaults),
        CONFIG_TEST(printed_values_load_as_the_same_values),
        CONFIG_TEST(numbers_print_in_their_largest_whole_unit),
        CONFIG_TEST(a_secret_is_shown_nowhere),
        CONFIG_TEST(a_file_sets_values_by_section_and_by_full_name),
        CONFIG_TEST(a_fault_in_the_file_is_named_with_its_line),
        CONFIG_TEST(loading_ends_at_the_first_fault),
        CONFIG_TEST(long_lines_are_read_whole_or_refused),
        CONFIG_TEST(a_nul_byte_hides_nothing),
        CONFIG_TEST(a_file_that_cannot_be_read_is_an_io_error),
        CONFIG_TEST(every_setting_has_its_own_environment_name),
        CONFIG_TEST(the_environment_is_taken_by_prefix),
        CONFIG_TEST(set_takes_one_assignment),
        CONFIG_TEST(a_refused_value_changes_nothing),
        CONFIG_TEST(booleans_have_four_spellings),
        CONFIG_TEST(texts_are_bounded),
        CONFIG_TEST(settings_that_contradict_each_other_are_refused),
        CONFIG_TEST(lists_are_walked_item_by_item),
        CONFIG_TEST(addresses_are_numeric_with_a_port),
        CONFIG_TEST(networks_contain_what_shares_their_bits),
        CONFIG_TEST(a_zeroed_config_may_be_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
