/* The command line is no library: its pure parts are taken in as they are. */
#include "../../src/cli/options.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What the command line says, and what it overrides. */

static unsigned mistakes, usages;

int cli_mistake(char *const argv[], const struct option *known) { return (int)++mistakes; }

int cli_usage(const char *command) { return (int)++usages; }

#define ARGUMENTS_MAX 12u
#define ARGUMENT_BYTES_MAX 80u

/* line: an argv as the kernel gives it, whose bytes may be written. */
static struct line {
    char text[ARGUMENTS_MAX][ARGUMENT_BYTES_MAX];
    char *argv[ARGUMENTS_MAX + 1];
    int argc;
} line;

static bool parsed(struct options *o, const char *const *arguments)
{
    memset(&line, 0, sizeof line);
    for (; arguments[line.argc]; line.argc++) {
        snprintf(line.text[line.argc], ARGUMENT_BYTES_MAX, "%s", arguments[line.argc]);
        line.argv[line.argc] = line.text[line.argc];
    }
    mistakes = usages = 0;
    optind = 0; /* begins anew (getopt(3), glibc) */
    return options_parse(o, line.argc, line.argv);
}

#define ARGUMENTS(...) (const char *const[]){"carillon serve", __VA_ARGS__, NULL}

static int no_environment(void **state)
{
    static char *nothing[] = {NULL};
    environ = nothing; /* any CARILLON_* of whoever runs this would be a setting */
    return 0;
}

static void a_secret_is_overwritten_where_others_could_read_it_and_taken_all_the_same(void **state)
{
    static const char *const forms[] = {"admin.master_key=correct horse", " admin.master_key = correct horse",
                                        "\tadmin.master_key\t=correct horse"};
    for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct options o;
        struct config c;
        struct config_error err;
        assert_true(parsed(&o, ARGUMENTS("--set", forms[i])));
        assert_null(strstr(line.argv[2], "correct"));
        assert_null(strstr(line.argv[2], "horse"));
        assert_int_equal(strlen(line.argv[2]), strlen(forms[i]));
        assert_string_equal(o.secret_given, "admin.master_key");
        assert_int_equal(options_load(&c, &o, &err), STATUS_OK);
        assert_string_equal(c.admin_master_key, "correct horse");
        config_free(&c);
        options_free(&o);
    }
}

static void what_is_no_secret_is_left_as_it_was(void **state)
{
    struct options o;
    assert_true(parsed(&o, ARGUMENTS("--set", "log.level=debug", "--set", "admin.master_key_is_not_this=visible")));
    assert_string_equal(line.argv[2], "log.level=debug");
    assert_string_equal(line.argv[4], "admin.master_key_is_not_this=visible");
    assert_null(o.secret_given);
    options_free(&o);
}

static void the_command_line_overrides_the_environment_and_the_last_word_counts(void **state)
{
    struct options o;
    struct config c;
    struct config_error err;
    setenv("CARILLON_STORE_DIR", "/from/environment", 1);
    assert_true(parsed(&o, ARGUMENTS("--cores", "1")));
    assert_int_equal(options_load(&c, &o, &err), STATUS_OK);
    assert_string_equal(c.store_dir, "/from/environment");
    config_free(&c);
    options_free(&o);
    assert_true(parsed(&o, ARGUMENTS("--data", "/first", "--set", "store.dir=/second")));
    assert_int_equal(options_load(&c, &o, &err), STATUS_OK);
    assert_string_equal(c.store_dir, "/second");
    config_free(&c);
    options_free(&o);
}

static void each_listen_adds_an_address_up_to_what_a_core_can_serve(void **state)
{
    struct options o;
    struct config c;
    struct config_error err = {0};
    assert_true(parsed(&o, ARGUMENTS("--listen", "127.0.0.1:1", "--cores", "1", "--listen", "127.0.0.1:2")));
    assert_int_equal(options_load(&c, &o, &err), STATUS_OK);
    assert_string_equal(c.net_listen, "127.0.0.1:1,127.0.0.1:2");
    config_free(&c);
    for (unsigned num = 2; num < LISTENERS_MAX; num++) {
        assert_int_equal(options_load(&c, &o, &err), STATUS_OK);
        config_free(&c);
        assign_listen(&o, "127.0.0.1:3");
    }
    assert_int_equal(options_load(&c, &o, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "net.listen: at most "));
    options_free(&o);
}

static void a_wrong_line_is_told_and_not_taken(void **state)
{
    struct options o;
    assert_false(parsed(&o, ARGUMENTS("--no-such-option")));
    assert_int_equal(mistakes, 1);
    options_free(&o);
    assert_false(parsed(&o, ARGUMENTS("--cores", "1", "stray")));
    assert_int_equal(usages, 1);
    options_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_secret_is_overwritten_where_others_could_read_it_and_taken_all_the_same,
                               no_environment),
        cmocka_unit_test_setup(what_is_no_secret_is_left_as_it_was, no_environment),
        cmocka_unit_test_setup(the_command_line_overrides_the_environment_and_the_last_word_counts, no_environment),
        cmocka_unit_test_setup(each_listen_adds_an_address_up_to_what_a_core_can_serve, no_environment),
        cmocka_unit_test_setup(a_wrong_line_is_told_and_not_taken, no_environment),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
