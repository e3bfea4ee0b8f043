/* The command line is no library: its pure parts are taken in as they are. */
#include "../../src/cli/memory.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>

static char root[64];

static void put(const char *path, const char *text)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/%s", root, path);
    for (char *at = name + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        mkdir(name, 0700);
        *at = '/';
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int begin(void **state)
{
    snprintf(root, sizeof root, "/tmp/memory_test.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void the_least_limit_on_the_way_up_counts(void **state)
{
    put("memory.max", "max\n");
    put("a/memory.max", "1000000\n");
    put("a/b/memory.max", "max\n");
    put("a/c/memory.max", "500\n");
    assert_int_equal(memory_of_cgroup(SLICE("0::/a/b\n"), root), 1000000);
    assert_int_equal(memory_of_cgroup(SLICE("0::/a/c\n"), root), 500);
    assert_int_equal(memory_of_cgroup(SLICE("0::/\n"), root), UINT64_MAX);
}

static void both_versions_of_cgroups_are_read(void **state)
{
    put("memory/x/memory.limit_in_bytes", "4096\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_of_cgroup(SLICE("9:name=systemd:/\n4:cpu,memory:/x\n0::/\n"), root), 4096);
    assert_int_equal(memory_of_cgroup(SLICE("4:memory:/gone\n"), root), 9223372036854771712ull);
}

static void nothing_readable_is_no_limit(void **state)
{
    assert_int_equal(memory_of_cgroup(SLICE(""), root), UINT64_MAX);
    assert_int_equal(memory_of_cgroup(SLICE("\n:\n0\n0::\n0::/no/such"), root), UINT64_MAX);
}

static void the_machine_has_memory(void **state)
{
    assert_true(memory_of_machine() > 64u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_least_limit_on_the_way_up_counts, begin, end),
        cmocka_unit_test_setup_teardown(both_versions_of_cgroups_are_read, begin, end),
        cmocka_unit_test_setup_teardown(nothing_readable_is_no_limit, begin, end),
        cmocka_unit_test(the_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
