// A backend's mix over HTTP: for each message that is sent four reads of history, a list of rooms and a health check.
//
//   k6 run -e MASTER_KEY=secret -e URL=http://127.0.0.1:8080 -e USERS=50 -e SECONDS=10 perf/k6/rest.js
//
// Thresholds fail the run (exit code 99): an answer that is no success, slow reads, slow durable sends.
import http from 'k6/http';
import { check } from 'k6';
import { headers, make, url, who } from './setup.js';

const users = Number(__ENV.USERS || 50);
const seconds = Number(__ENV.SECONDS || 10);

export const options = {
  scenarios: { mix: { executor: 'constant-vus', vus: users, duration: `${seconds}s` } },
  thresholds: {
    checks: ['rate==1'],
    'http_req_duration{kind:history}': ['p(99)<500'],
    'http_req_duration{kind:send}': ['p(99)<1000'],
    'http_req_duration{kind:health}': ['p(99)<500'],
  },
};

export function setup() {
  return make();
}

export default function (data) {
  const { room, user } = who(data, __VU - 1);
  const as = (kind) => ({ headers: headers(data, user), tags: { kind } });
  const message = { content: 'a'.repeat(128), client_id: `${user}-${__VU}-${__ITER}` };
  check(http.post(`${url}/v1/rooms/${room}/messages`, JSON.stringify(message), as('send')), {
    'a message is taken': (a) => a.status === 201,
  });
  for (let i = 0; i < 4; i++) {
    check(http.get(`${url}/v1/rooms/${room}/messages?limit=20`, as('history')), {
      'history has messages': (a) => a.status === 200 && a.json('items').length > 0,
    });
  }
  check(http.get(`${url}/v1/rooms`, as('rooms')), { 'rooms are listed': (a) => a.status === 200 });
  check(http.get(`${url}/health`, as('health')), { 'it is healthy': (a) => a.status === 200 });
}
