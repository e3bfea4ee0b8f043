// Chat over WebSocket: each virtual user joins a room of ten, sends a message a second and receives everybody's.
//
//   k6 run -e MASTER_KEY=secret -e URL=http://127.0.0.1:8080 -e USERS=100 -e SECONDS=10 perf/k6/chat.js
//
// Thresholds fail the run (exit code 99): a send that is not acknowledged, a hole in the order, slow deliveries. k6
// itself takes milliseconds for a message: carillon-load is what measures a gateway to its limits.
import ws from 'k6/ws';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { headers, make, url, who } from './setup.js';

const users = Number(__ENV.USERS || 100);
const seconds = Number(__ENV.SECONDS || 10);
const LEAVE_MS = 1000; // for the answers that are still under way

const delivery = new Trend('chat_delivery_ms', true);
const sent = new Counter('chat_sent');
const acked = new Counter('chat_acked');
const received = new Counter('chat_received');
const holes = new Counter('chat_holes');
const unanswered = new Counter('chat_unanswered');
const refused = new Counter('chat_refused');

export const options = {
  scenarios: { chat: { executor: 'per-vu-iterations', vus: users, iterations: 1, maxDuration: `${seconds + 60}s` } },
  thresholds: {
    checks: ['rate==1'],
    chat_holes: ['count==0'],
    chat_refused: ['count==0'],
    chat_unanswered: ['count==0'],
    chat_received: ['count>0'],
    chat_delivery_ms: ['p(99)<1000'],
  },
};

export function setup() {
  return make();
}

export default function (data) {
  const { room, user } = who(data, __VU - 1);
  let number = 0, open = 0, next = 0;
  const answer = ws.connect(url.replace('http', 'ws') + '/ws', {
    headers: Object.assign(headers(data, user), { 'Sec-WebSocket-Protocol': 'carillon.v1.json' }),
  }, (socket) => {
    socket.on('open', () => socket.send(JSON.stringify({ type: 'hello', id: 0, rooms: 'all' })));
    socket.on('message', (text) => {
      const frame = JSON.parse(text);
      if (frame.type === 'welcome') {
        next = frame.rooms.find((one) => one.room_id === room).head + 1;
        socket.setInterval(() => {
          if (number >= seconds) return;
          socket.send(JSON.stringify({
            type: 'send_message', id: ++number, room_id: room, client_id: `${user}-${number}`, content: `${Date.now()}`,
          }));
          sent.add(1);
          open++;
        }, 1000);
        socket.setTimeout(() => socket.close(), seconds * 1000 + LEAVE_MS);
      } else if (frame.type === 'ok' && frame.re > 0) {
        acked.add(1);
        open--;
      } else if (frame.type === 'error') {
        refused.add(1);
        open--;
      } else if (frame.type === 'message') {
        received.add(1);
        delivery.add(Date.now() - Number(frame.content));
        if (frame.seq !== next) holes.add(1);
        next = frame.seq + 1;
      }
    });
  });
  unanswered.add(open);
  check(answer, { 'the upgrade is answered with 101': (a) => a && a.status === 101 });
}
