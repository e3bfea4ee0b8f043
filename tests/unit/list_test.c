#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/base/list.h"

struct item {
    int before;
    struct list link;
    struct queue_node node;
};

/* assert_order walks the list both ways; `ids` are indices into `items`, ended by -1. */
static void assert_order(struct list *l, struct item *items, const int *ids)
{
    struct list *at = l->next, *back = l;
    for (; *ids >= 0; ids++) {
        assert_ptr_equal(at, &items[*ids].link);
        assert_ptr_equal(at->prev, back);
        assert_ptr_equal(CONTAINER_OF(at, struct item, link), &items[*ids]);
        back = at;
        at = at->next;
    }
    assert_ptr_equal(at, l);
    assert_ptr_equal(l->prev, back);
}

static void a_list_keeps_the_order_of_pushing(void **state)
{
    struct list l;
    struct item items[4] = {0};
    list_init(&l);
    assert_true(list_empty(&l));
    assert_order(&l, items, (const int[]){-1});
    for (int i = 0; i < 4; i++) list_push(&l, &items[i].link);
    assert_false(list_empty(&l));
    assert_order(&l, items, (const int[]){0, 1, 2, 3, -1});
    for (int i = 0; i < 4; i++) assert_ptr_equal(list_pop(&l), &items[i].link);
    assert_null(list_pop(&l));
    assert_true(list_empty(&l));
}

static void removing_works_at_every_place_and_twice(void **state)
{
    struct list l;
    struct item items[4] = {0};
    list_init(&l);
    for (int i = 0; i < 4; i++) list_push(&l, &items[i].link);
    list_remove(&items[2].link);
    list_remove(&items[2].link);
    assert_order(&l, items, (const int[]){0, 1, 3, -1});
    list_remove(&items[0].link);
    assert_order(&l, items, (const int[]){1, 3, -1});
    list_remove(&items[3].link);
    assert_order(&l, items, (const int[]){1, -1});
    list_push(&l, &items[0].link);
    assert_order(&l, items, (const int[]){1, 0, -1});
    list_remove(&items[1].link);
    list_remove(&items[0].link);
    assert_true(list_empty(&l));
}

static void a_node_knows_whether_it_is_linked(void **state)
{
    struct list l;
    struct item item = {0};
    list_init(&l);
    assert_false(list_linked(&item.link)); /* zeroed */
    list_remove(&item.link);               /* harmless */
    list_push(&l, &item.link);
    assert_true(list_linked(&item.link));
    list_remove(&item.link);
    assert_false(list_linked(&item.link));
    list_push(&l, &item.link);
    assert_ptr_equal(list_pop(&l), &item.link);
    assert_false(list_linked(&item.link));
}

static void a_queue_is_first_in_first_out_and_counts(void **state)
{
    struct queue q = {0};
    struct item items[3] = {0};
    assert_null(queue_pop(&q));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3; i++) {
            queue_push(&q, &items[i].node);
            assert_int_equal(q.len, i + 1);
        }
        for (unsigned i = 0; i < 3; i++) {
            struct queue_node *n = queue_pop(&q);
            assert_ptr_equal(n, &items[i].node);
            assert_null(n->next);
            assert_int_equal(q.len, 2 - i);
        }
        assert_null(queue_pop(&q));
        assert_null(q.tail);
    }
    queue_push(&q, &items[0].node);
    queue_push(&q, &items[1].node);
    assert_ptr_equal(queue_pop(&q), &items[0].node);
    queue_push(&q, &items[0].node); /* at once again */
    assert_ptr_equal(queue_pop(&q), &items[1].node);
    assert_ptr_equal(queue_pop(&q), &items[0].node);
    assert_int_equal(q.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_the_order_of_pushing),
        cmocka_unit_test(removing_works_at_every_place_and_twice),
        cmocka_unit_test(a_node_knows_whether_it_is_linked),
        cmocka_unit_test(a_queue_is_first_in_first_out_and_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
