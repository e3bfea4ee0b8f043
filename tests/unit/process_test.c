/* The command line is no library: its pure parts are taken in as they are. */
#include "../../src/cli/process.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void cpus_are_those_of_the_mask_in_order(void **state)
{
    (void)state;
    cpu_set_t mask;
    int cpus[8];
    CPU_ZERO(&mask);
    CPU_SET(1, &mask);
    CPU_SET(7, &mask);
    CPU_SET(CPU_SETSIZE - 1, &mask);
    assert_int_equal(process_cpu_list(cpus, 8, &mask), 3);
    assert_int_equal(cpus[0], 1);
    assert_int_equal(cpus[1], 7);
    assert_int_equal(cpus[2], CPU_SETSIZE - 1);
    assert_int_equal(process_cpu_list(cpus, 2, &mask), 2);
}

static void more_cores_than_cpus_share_them_evenly(void **state)
{
    (void)state;
    static const int cpus[] = {3, 5};
    assert_int_equal(process_cpu_of_core(0, cpus, 2), 3);
    assert_int_equal(process_cpu_of_core(1, cpus, 2), 5);
    assert_int_equal(process_cpu_of_core(2, cpus, 2), 3);
    assert_int_equal(process_cpu_of_core(5, cpus, 2), 5);
}

static void cores_stay_unpinned_when_the_mask_is_unknown(void **state)
{
    (void)state;
    assert_int_equal(process_cpu_of_core(1, NULL, 0), -1);
}

/* A core opens a table of limits.connections / cores + 1 (core.c), which the kernel refuses above RLIMIT_NOFILE. */
static void derived_connections_fit_each_ring_table(void **state)
{
    (void)state;
    static const uint64_t descriptors[] = {2, 64, 256, 512, 513, 1024, 20000, 1048576, 1073741816};
    for (unsigned cores = 1; cores <= CORES_MAX; cores++) {
        for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
            uint64_t a_core = process_connections(descriptors[i], cores) / cores;
            assert_true(a_core >= 1 && a_core + 1 <= descriptors[i]);
            assert_true(a_core <= CONNECTIONS_DERIVED_MAX);
        }
    }
    assert_int_equal(process_connections(20000, 6), 6 * (20000 - DESCRIPTORS_KEPT));
}

static void a_user_that_is_not_there_is_refused(void **state)
{
    (void)state;
    char why[256] = "";
    assert_int_equal(process_become("no-such-user-of-this-host", why, sizeof why), STATUS_NOT_FOUND);
    assert_non_null(strstr(why, "no-such-user-of-this-host"));
}

static void ready_reaches_the_service_manager(void **state)
{
    (void)state;
    static const char name[] = "@carillon-process-test";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path + 1, name + 1, sizeof name - 2);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof name - 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);

    unsetenv("NOTIFY_SOCKET");
    process_notify("READY=1");
    char got[64];
    assert_int_equal(recv(fd, got, sizeof got, 0), -1);

    setenv("NOTIFY_SOCKET", name, 1);
    process_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(recv(fd, got, sizeof got, 0), 7);
    assert_memory_equal(got, "READY=1", 7);
    close(fd);
}

static void free_bytes_of_a_missing_directory_are_unknown(void **state)
{
    (void)state;
    assert_true(process_free_bytes("/no/such/directory") == UINT64_MAX);
    assert_true(process_free_bytes("/") < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_are_those_of_the_mask_in_order),
        cmocka_unit_test(more_cores_than_cpus_share_them_evenly),
        cmocka_unit_test(cores_stay_unpinned_when_the_mask_is_unknown),
        cmocka_unit_test(derived_connections_fit_each_ring_table),
        cmocka_unit_test(a_user_that_is_not_there_is_refused),
        cmocka_unit_test(ready_reaches_the_service_manager),
        cmocka_unit_test(free_bytes_of_a_missing_directory_are_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
