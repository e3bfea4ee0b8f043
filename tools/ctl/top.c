/* top: status by the second. On a terminal it has the screen for itself, and gives it back however it ends. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "exchange.h"
#include "status.h"
#include "style.h"

#define INTERVAL_MS 1000u

/* The other screen, without a cursor and without wrapped lines; and back. */
#define SCREEN_TAKE "\033[?1049h\033[?25l\033[?7l"
#define SCREEN_GIVE "\033[?7h\033[?25h\033[?1049l"

/* look: one answer; two are kept, because a document lives in its parser. */
struct look {
    struct exchange x;
    uint64_t at_ms;
    bool good;
};

static struct termios terminal_before;
static bool terminal_taken;
static volatile sig_atomic_t told_to_end;

static void terminal_take(void);
static void terminal_give(void);
static void look(struct look *l, const struct ctl_command *command);
static void show(const struct ctl *c, const struct look *now, const struct look *before);
static bool pause_until(uint64_t at_ms);

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void on_end(int signal_number) { told_to_end = signal_number; }

static void signals_take(void)
{
    const struct sigaction end = {.sa_handler = on_end}; /* without SA_RESTART: poll returns */
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) ASSERT(sigaction(ends[i], &end, NULL) == 0);
}

int top_run(const struct ctl *c, const struct ctl_command *command)
{
    struct look looks[2] = {0};
    const struct look *failed = NULL;
    for (unsigned i = 0; i < 2; i++) exchange_open(&looks[i].x, c, CTL_OPERATOR);
    bool live = !c->json && !ctl_given(c, ONCE) && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    signals_take();
    look(&looks[0], command);
    if (!looks[0].good) failed = &looks[0];
    else if (live) terminal_take();
    uint64_t due_ms = now_ms();
    for (unsigned shown = 0; !failed; shown++) {
        struct look *before = &looks[shown % 2], *now = &looks[(shown + 1) % 2];
        due_ms += INTERVAL_MS;
        if (!pause_until(due_ms)) break;
        look(now, command);
        if (now->good) show(c, now, before);
        else failed = now;
        if (ferror(stdout) || fflush(stdout) != 0) break; /* whoever read it has gone */
        if (ctl_given(c, ONCE)) break;
    }
    terminal_give();
    if (failed) exchange_complain(&failed->x);
    for (unsigned i = 0; i < 2; i++) exchange_close(&looks[i].x);
    return failed || ferror(stdout) ? CTL_FAILED : CTL_DONE;
}

static void look(struct look *l, const struct ctl_command *command)
{
    l->good = exchange_call(&l->x, command->method, command->target, (struct slice){0}) && l->x.parsed;
    l->at_ms = now_ms();
}

/* --- the screen ------------------------------------------------------------------------------------------------- */

static void terminal_write(const char *text, size_t len)
{
    while (len) {
        ssize_t written = write(STDOUT_FILENO, text, len);
        if (written < 0 && errno != EINTR) return;
        if (written > 0) {
            text += written;
            len -= (size_t)written;
        }
    }
}

static void terminal_take(void)
{
    if (tcgetattr(STDIN_FILENO, &terminal_before) != 0) return;
    struct termios raw = terminal_before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG); /* Ctrl-C comes as a byte: the screen is given back first */
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0) return;
    terminal_taken = true;
    style_memory();
    atexit(terminal_give);
    terminal_write(SCREEN_TAKE, sizeof SCREEN_TAKE - 1);
}

static void terminal_give(void)
{
    if (!terminal_taken) return;
    terminal_taken = false;
    terminal_write(SCREEN_GIVE, sizeof SCREEN_GIVE - 1);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

static unsigned terminal_rows(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row : 24;
}

/* screen_show draws over the last picture, line by line and without clearing first, so that nothing flickers. */
static void screen_show(const char *text, size_t len)
{
    struct buf out = {0};
    unsigned rows = terminal_rows();
    BUF_LIT(&out, "\033[H");
    for (unsigned row = 1; len && row < rows; row++) {
        const char *end = memchr(text, '\n', len);
        size_t line = end ? (size_t)(end - text) : len;
        buf_append(&out, text, line);
        BUF_LIT(&out, "\033[K\r\n");
        text += line + (end != NULL);
        len -= line + (end != NULL);
    }
    BUF_LIT(&out, "\033[J\033[2mq ends\033[0m");
    terminal_write(out.data, out.len);
    buf_free(&out);
}

static void show(const struct ctl *c, const struct look *now, const struct look *before)
{
    if (c->json) {
        printf("%.*s\n", SLICE_FMT(now->x.answer.body));
        return;
    }
    if (!terminal_taken) {
        status_print(stdout, now->x.root, &before->x.root, now->at_ms - before->at_ms);
        if (!ctl_given(c, ONCE)) putchar('\n');
        return;
    }
    char *text = NULL;
    size_t len = 0;
    FILE *picture = open_memstream(&text, &len);
    ASSERT(picture != NULL);
    status_print(picture, now->x.root, &before->x.root, now->at_ms - before->at_ms);
    ASSERT(fclose(picture) == 0);
    screen_show(text, len);
    free(text);
}

/* pause_until waits; false when somebody wants to end it. */
static bool pause_until(uint64_t at_ms)
{
    while (!told_to_end) {
        uint64_t now = now_ms();
        if (now >= at_ms) return true;
        struct pollfd keys = {.fd = terminal_taken ? STDIN_FILENO : -1, .events = POLLIN};
        if (poll(&keys, 1, (int)(at_ms - now)) <= 0) continue;
        char key;
        ssize_t got = read(STDIN_FILENO, &key, 1);
        bool gone = got < 0 || (got == 0 && (keys.revents & POLLHUP));
        if (gone || (got == 1 && (key == 'q' || key == 3 || key == 4))) return false; /* q, Ctrl-C, Ctrl-D */
    }
    return false;
}
