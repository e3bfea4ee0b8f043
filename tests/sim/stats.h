/* stats: how often each kind of thing happened in a run, and over all seeds. A simulator that no longer reaches
 * something must not stay green, so `simulator --stats` fails when one of these never happened. */
#ifndef CARILLON_TESTS_SIM_STATS_H
#define CARILLON_TESTS_SIM_STATS_H

#include <stdbool.h>
#include <stdint.h>

/* STAT(name, what is counted) */
#define STATS(STAT) \
    STAT(SENDS, "sends") \
    STAT(SENDS_ANSWERED, "sends answered") \
    STAT(SENDS_REPEATED, "answers to repeated sends, the first one again") \
    STAT(SENDS_TOGETHER, "sends while the same message was on its way elsewhere") \
    STAT(SENDS_OTHER_DEVICE, "sends repeated by another device") \
    STAT(SENDS_MISMATCHED, "sends refused for another body under the same id") \
    STAT(SENDS_AFTER_WINDOW, "sends repeated after the window") \
    STAT(SENDS_REFUSED, "sends refused to those who are out") \
    STAT(ROOMS_MADE, "rooms made") \
    STAT(ROOMS_MADE_AGAIN, "room creations repeated") \
    STAT(ROOMS_DIRECT, "direct rooms") \
    STAT(ROOMS_LARGE, "large rooms") \
    STAT(ROOMS_FOREIGN, "requests for another tenant's room") \
    STAT(JOINS, "joins") \
    STAT(LEAVES, "leaves") \
    STAT(ADDS, "members added by others") \
    STAT(REMOVES, "members removed by others") \
    STAT(ROLES, "roles changed") \
    STAT(LEFT_LIVE, "own leavings seen live") \
    STAT(SUBSCRIBES, "subscriptions") \
    STAT(SUBSCRIBES_AFTER, "subscriptions behind a seq") \
    STAT(UNSUBSCRIBES, "ends of subscriptions") \
    STAT(SUBSCRIBES_CROSSED, "subscriptions asked for while others were under way") \
    STAT(ACKS, "acks") \
    STAT(ACKS_BEYOND, "acks beyond the head refused") \
    STAT(PAGES, "pages of history") \
    STAT(PAGES_BEFORE, "pages of history, backwards") \
    STAT(PAGES_REFUSED, "pages refused to those who are out") \
    STAT(SYNCS, "syncs") \
    STAT(SYNCS_CONTINUED, "pages of syncs that went on") \
    STAT(SOCKETS, "sockets opened") \
    STAT(SOCKETS_AT_ONCE, "sockets served at once") \
    STAT(RESUMES, "positions recovered") \
    STAT(RESUMES_TWISTED, "positions that never were, refused") \
    STAT(RESUMES_OLD, "positions of older epochs recovered") \
    STAT(RESUMES_LOST, "positions lost with the power") \
    STAT(PUSHES, "pushes") \
    STAT(STALLS, "clients that stopped reading for long") \
    STAT(CATCH_UPS, "subscriptions caught up from the log") \
    STAT(TYPING, "typing told") \
    STAT(PRESENCE, "presence told") \
    STAT(KEYS_MADE, "keys made") \
    STAT(KEYS_REVOKED, "keys revoked") \
    STAT(KEYS_REFUSED, "requests refused for a revoked key") \
    STAT(KICKS, "users kicked") \
    STAT(TENANTS_DISABLED, "tenants switched off") \
    STAT(TENANTS_REFUSED, "requests refused for a tenant switched off") \
    STAT(TENANTS_DELETED, "tenants deleted") \
    STAT(RATES, "rates limited") \
    STAT(RATES_REFUSED, "requests refused by a rate") \
    STAT(RELOADS, "settings read again") \
    STAT(DRAINS, "restarts in good order") \
    STAT(DRAINS_TOLD, "sockets told to come back") \
    STAT(DRAINS_REFUSED, "requests refused while draining") \
    STAT(CLOSED_1001, "closes 1001: idle or stopping") \
    STAT(CLOSED_4001, "closes 4001: no hello") \
    STAT(CLOSED_4003, "closes 4003: kicked") \
    STAT(CLOSED_4004, "closes 4004: key or tenant ended") \
    STAT(CLOSED_4129, "closes 4129: beyond a rate") \
    STAT(CLOSED_4200, "closes 4200: took nothing") \
    STAT(KILLS, "processes killed") \
    STAT(POWER_LOSSES, "power losses") \
    STAT(STARTS_CRASHED, "crashes during the start") \
    STAT(FAST_LOST, "events of fast rooms lost with the power") \
    STAT(DISK_FAILURES, "disks that failed") \
    STAT(WINDOWS_PASSED, "weeks that passed")

#define STAT(name, text) STAT_##name,
enum stat { STATS(STAT) STATS_NUM };
#undef STAT

extern uint64_t stats[STATS_NUM];
static inline void stat_count(enum stat s) { stats[s]++; }
/* stats_print prints what `all` counts; false when something never happened. */
bool stats_print(const uint64_t all[STATS_NUM]);

#endif
