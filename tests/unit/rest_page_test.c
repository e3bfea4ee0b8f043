#include <stdio.h>
#include <string.h>

#include "../../src/api/page_files.h"
#include "harness.h"

/* The files of the page, as they are served. */

static const struct page_file *file_of(const char *name)
{
    for (unsigned i = 0; i < num_page_files; i++)
        if (strcmp(page_files[i].name, name) == 0) return &page_files[i];
    fail_msg("%s is not in the binary", name);
    return NULL;
}

static void files_are_embedded_as_they_are(void **state)
{
    char path[256], line[64];
    for (unsigned i = 0; i < num_page_files; i++) {
        const struct page_file *f = &page_files[i];
        snprintf(path, sizeof path, CARILLON_SOURCES "/tools/web/%s", f->name);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        size_t at = 0, len;
        while ((len = fread(line, 1, sizeof line, file)) > 0) {
            assert_true(at + len <= f->content.len);
            assert_memory_equal(line, f->content.data + at, len);
            at += len;
        }
        fclose(file);
        assert_int_equal(at, f->content.len);
        assert_true(f->content_type[0] != '\0');
        for (unsigned other = 0; other < i; other++) assert_string_not_equal(f->etag, page_files[other].etag);
    }
}

static void the_page_is_at_the_root_with_what_a_browser_must_know(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/", NULL, "", NULL), 200);
    assert_true(slice_is(file_of("index.html")->content, c->text.data));
    expect_text(c->head.data, "Content-Type: text/html; charset=utf-8\r\n");
    expect_text(c->head.data, "Cache-Control: no-cache\r\n");
    expect_text(c->head.data, "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';");
    expect_text(c->head.data, "frame-ancestors 'none'");
    expect_text(c->head.data, "X-Content-Type-Options: nosniff\r\n");
    expect_no_text(c->text.data, "<script>"); /* its policy lets no script run that stands in the page */
    expect_no_text(c->text.data, "<style");
}

static void its_files_have_their_types_and_nothing_else_is_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/page/app.js", NULL, "", NULL), 200);
    expect_text(c->head.data, "Content-Type: text/javascript; charset=utf-8\r\n");
    assert_int_equal(client_call(c, "GET", "/page/style.css", NULL, "", NULL), 200);
    expect_text(c->head.data, "Content-Type: text/css; charset=utf-8\r\n");
    assert_int_equal(client_call(c, "GET", "/page/icon.svg", NULL, "", NULL), 200);
    expect_text(c->head.data, "Content-Type: image/svg+xml\r\n");
    static const char *const absent[] = {"/page/",       "/page/none.js", "/page/../app.js",
                                         "/page/%2e%2e", "/v1/",          "/v1/page/app.js"};
    for (unsigned i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_int_equal(client_call(c, "GET", absent[i], NULL, "", NULL), 404);
    assert_int_equal(client_call(c, "POST", "/page/app.js", NULL, "", NULL), 405);
}

static void what_the_browser_has_is_not_sent_again(void **state)
{
    struct harness *h = *state;
    char etag[128], header[256];
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    snprintf(etag, sizeof etag, "%s", file_of("app.js")->etag);
    static const char *const same[] = {"%s", "W/%s", "\"other\", %s", "\"other\" , W/%s , \"more\"", "*"};
    for (unsigned i = 0; i < sizeof same / sizeof same[0]; i++) {
        char list[192] = "*";
        const char *place = strstr(same[i], "%s");
        if (place) snprintf(list, sizeof list, "%.*s%s%s", (int)(place - same[i]), same[i], etag, place + 2);
        snprintf(header, sizeof header, "If-None-Match: %s\r\n", list);
        assert_int_equal(client_call(c, "GET", "/page/app.js", NULL, header, NULL), 304);
        expect_text(c->head.data, etag);
    }
    static const char *const others[] = {"If-None-Match: \"other\"\r\n", "If-None-Match: \r\n",
                                         "If-None-Match: W/\r\n"};
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(client_call(c, "GET", "/page/app.js", NULL, others[i], NULL), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_embedded_as_they_are),
        TEST(the_page_is_at_the_root_with_what_a_browser_must_know),
        TEST(its_files_have_their_types_and_nothing_else_is_there),
        TEST(what_the_browser_has_is_not_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
