/* The command line is no library: its parts are taken in as they are. */
#include "../../src/cli/admin_client.c" /* NOLINT(bugprone-suspicious-include) */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

/* listen_on makes a socket of that name, which the kernel lets clients connect to whether or not anybody accepts. */
static int listen_on(struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/tmp/carillon-admin-%d", (int)getpid());
    unlink(address->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void a_gateway_that_does_not_answer_is_given_up(void **state)
{
    struct sockaddr_un address;
    int fd = listen_on(&address);
    const struct admin_request request = {.method = "GET", .target = "/health"};
    struct buf body = {0};
    unsigned http_status;
    double started = now_s();
    assert_int_equal(admin_client_call(&http_status, &body, address.sun_path, &request), STATUS_IO);
    assert_in_range((uint64_t)((now_s() - started) * 1000), ADMIN_TIMEOUT_MS - 100, 3 * ADMIN_TIMEOUT_MS);
    buf_free(&body);
    close(fd);
    unlink(address.sun_path);
}

static void a_gateway_that_is_not_there_is_an_error_at_once(void **state)
{
    const struct admin_request request = {.method = "GET", .target = "/health"};
    struct buf body = {0};
    unsigned http_status;
    double started = now_s();
    assert_int_equal(admin_client_call(&http_status, &body, "/tmp/no-such-carillon.sock", &request), STATUS_IO);
    assert_true(now_s() - started < ADMIN_TIMEOUT_MS / 2000.0);
    buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gateway_that_does_not_answer_is_given_up),
        cmocka_unit_test(a_gateway_that_is_not_there_is_an_error_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
