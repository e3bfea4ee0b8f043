#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../net/listener.h"
#include "../../src/base/clock.h"
#include "../../src/base/limits.h"

static char why[256], name[LISTENER_NAME_LEN];

static int connect_to(unsigned port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

static void port_0_is_answered_with_the_real_port_and_options_are_inherited(void **state)
{
    struct listener_tcp listener = {.address = "127.0.0.1:0", .reuse_port = true, .send_buffer_bytes = 40000};
    int fd;
    assert_int_equal(listener_open_tcp(&fd, name, &listener, why, sizeof why), STATUS_OK);
    unsigned port = 0;
    assert_int_equal(sscanf(name, "127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    int client = connect_to(port), server = accept(fd, NULL, NULL), value = 0;
    socklen_t len = sizeof value;
    assert_true(client >= 0 && server >= 0);
    assert_int_equal(getsockopt(server, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    assert_true(value);
    assert_int_equal(getsockopt(server, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
    assert_int_equal(value, 0); /* who takes nothing is told so, before the kernel ends the connection without a word */
    assert_int_equal(getsockopt(server, SOL_SOCKET, SO_SNDBUF, &value, &len), 0);
    assert_int_equal(value, 80000);
    close(server);
    close(client);
    close(fd);
}

static void a_deferred_client_is_accepted_with_its_first_bytes_or_after_a_while(void **state)
{
    struct listener_tcp listener = {.address = "127.0.0.1:0", .deferred = true};
    int fd;
    char byte;
    assert_int_equal(listener_open_tcp(&fd, name, &listener, why, sizeof why), STATUS_OK);
    unsigned port = 0;
    assert_int_equal(sscanf(name, "127.0.0.1:%u", &port), 1);
    uint64_t before_ns = clock_mono_ns(clock_real());
    int silent = connect_to(port), talks = connect_to(port);
    assert_true(talks >= 0 && silent >= 0);
    assert_int_equal(send(talks, "x", 1, 0), 1);
    bool at_once = clock_mono_ns(clock_real()) - before_ns < 500000000; /* else the silent one may be there already */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    int first = accept(fd, NULL, NULL);
    assert_true(first >= 0);
    if (at_once) assert_int_equal(recv(first, &byte, 1, MSG_DONTWAIT), 1); /* it was there */
    assert_int_equal(poll(&p, 1, 60000), 1);
    int second = accept(fd, NULL, NULL);
    assert_true(second >= 0);
    if (at_once) assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), -1);
    close(first);
    close(second);
    close(talks);
    close(silent);
    close(fd);
}

static void several_cores_share_a_port_and_strangers_do_not_get_it(void **state)
{
    struct listener_tcp listener = {.address = "127.0.0.1:0", .reuse_port = true};
    int first, second, third;
    assert_int_equal(listener_open_tcp(&first, name, &listener, why, sizeof why), STATUS_OK);
    char same[LISTENER_NAME_LEN];
    memcpy(same, name, sizeof same);
    listener.address = same;
    assert_int_equal(listener_open_tcp(&second, name, &listener, why, sizeof why), STATUS_OK);
    assert_string_equal(name, same);
    listener.reuse_port = false;
    assert_int_equal(listener_open_tcp(&third, name, &listener, why, sizeof why), STATUS_EXISTS);
    assert_int_equal(third, -1);
    assert_non_null(strstr(why, "another process listens there"));
    close(first);
    close(second);
    assert_int_equal(listener_open_tcp(&third, name, &listener, why, sizeof why), STATUS_OK);
    close(third);
}

static void an_ipv6_listener_is_ipv6_only(void **state)
{
    struct listener_tcp listener = {.address = "[::1]:0", .reuse_port = true};
    int fd, value = 0;
    socklen_t len = sizeof value;
    enum status s = listener_open_tcp(&fd, name, &listener, why, sizeof why);
    if (s != STATUS_OK) skip(); /* a host without IPv6 */
    assert_true(strncmp(name, "[::1]:", 6) == 0);
    assert_int_equal(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len), 0);
    assert_int_equal(value, 1);
    close(fd);
}

static void what_is_not_an_address_is_refused(void **state)
{
    static const char *const bad[] = {
        "",       "8080",    "127.0.0.1",      "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "localhost:80",
        "::1:80", "[::1]80", "[127.0.0.1]:80", "[::1:80",    "1.2.3:80",    "127.0.0.1:-1",    "127.0.0.1: 80",
        "]:80",   ":80"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct listener_tcp listener = {.address = bad[i]};
        int fd;
        if (listener_open_tcp(&fd, name, &listener, why, sizeof why) != STATUS_INVALID) print_error("%s\n", bad[i]);
        assert_int_equal(listener_open_tcp(&fd, name, &listener, why, sizeof why), STATUS_INVALID);
        assert_non_null(strstr(why, "not an address and port"));
    }
}

static void an_address_of_another_host_is_an_error_with_its_reason(void **state)
{
    struct listener_tcp listener = {.address = "192.0.2.1:0"};
    int fd;
    assert_int_equal(listener_open_tcp(&fd, name, &listener, why, sizeof why), STATUS_IO);
    assert_non_null(strstr(why, "no interface of this host has that address"));
}

static void a_unix_socket_is_its_owners_alone_and_replaces_a_stale_one(void **state)
{
    char folder[] = "/tmp/listener_test.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/admin.sock", folder);
    int fd, second;
    struct stat info;
    mode_t old = umask(0);
    assert_int_equal(listener_open_unix(&fd, path, why, sizeof why), STATUS_OK);
    umask(old);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);

    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof to), 0);
    close(client);

    assert_int_equal(listener_open_unix(&second, path, why, sizeof why), STATUS_EXISTS); /* somebody listens */
    assert_int_equal(stat(path, &info), 0);
    close(fd); /* the file stays: as after a crash */
    assert_int_equal(listener_open_unix(&second, path, why, sizeof why), STATUS_OK);
    close(second);
    unlink(path);

    FILE *file = fopen(path, "w"); /* not a socket: not ours to remove */
    assert_non_null(file);
    fclose(file);
    assert_int_equal(listener_open_unix(&second, path, why, sizeof why), STATUS_EXISTS);
    assert_int_equal(stat(path, &info), 0);
    unlink(path);
    rmdir(folder);
}

static void a_unix_path_that_is_too_long_is_refused(void **state)
{
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    int fd;
    assert_int_equal(listener_open_unix(&fd, path, why, sizeof why), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_0_is_answered_with_the_real_port_and_options_are_inherited),
        cmocka_unit_test(a_deferred_client_is_accepted_with_its_first_bytes_or_after_a_while),
        cmocka_unit_test(several_cores_share_a_port_and_strangers_do_not_get_it),
        cmocka_unit_test(an_ipv6_listener_is_ipv6_only),
        cmocka_unit_test(what_is_not_an_address_is_refused),
        cmocka_unit_test(an_address_of_another_host_is_an_error_with_its_reason),
        cmocka_unit_test(a_unix_socket_is_its_owners_alone_and_replaces_a_stale_one),
        cmocka_unit_test(a_unix_path_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
