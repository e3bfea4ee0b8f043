/* carillon-load: puts a Carillon gateway under load and says what it did. One thread, one ring: see engine.h. */
#include <stdio.h>

#include "../../src/base/standard_streams.h"
#include "connections.h"
#include "options.h"
#include "report.h"
#include "rest.h"
#include "stop.h"
#include "traffic.h"

int main(int argc, char **argv)
{
    static struct options options;
    static struct report report;
    standard_streams_open();
    switch (options_parse(&options, argc, argv)) {
    case OPTIONS_OK: break;
    case OPTIONS_HELP: return 0;
    case OPTIONS_USAGE: return 2;
    }
    stop_install();
    int code = 1;
    switch (options.scenario) {
    case SCENARIO_FANOUT:
    case SCENARIO_CHAT:
    case SCENARIO_DURABLE: code = traffic_run(&options, &report); break;
    case SCENARIO_CONNECT: code = connections_connect(&options, &report); break;
    case SCENARIO_IDLE: code = connections_idle(&options, &report); break;
    case SCENARIO_REST: code = rest_run(&options, &report); break;
    }
    if (report.num_rows) report_print(&report, stdout, options.json);
    return code;
}
