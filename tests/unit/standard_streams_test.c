#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/base/standard_streams.h"

static bool is_null(int fd)
{
    struct stat null, found;
    return stat("/dev/null", &null) == 0 && fstat(fd, &found) == 0 && found.st_rdev == null.st_rdev;
}

/* in_a_child closes the descriptors of the mask there, and returns what the child makes of it. */
static int in_a_child(unsigned closed)
{
    pid_t child = fork();
    if (child == 0) {
        for (int fd = 0; fd <= 2; fd++)
            if (closed & 1u << fd) close(fd);
        standard_streams_open();
        int bad = 0;
        for (int fd = 0; fd <= 2; fd++) bad |= closed & 1u << fd ? !is_null(fd) : fcntl(fd, F_GETFD) < 0;
        int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
        _exit(bad || next <= 2);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void what_was_closed_is_null_and_the_rest_is_left_alone(void **state)
{
    for (unsigned closed = 0; closed < 8; closed++) assert_int_equal(in_a_child(closed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_closed_is_null_and_the_rest_is_left_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
