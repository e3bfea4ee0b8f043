// What both scripts need before they begin: a tenant of their own, with a room for each ten users.
import http from 'k6/http';
import { fail } from 'k6';

export const url = __ENV.URL || 'http://127.0.0.1:8080';
export const rooms = Number(__ENV.ROOMS || 10);
const MEMBERS = 10;

function post(path, body, headers) {
  const answer = http.post(url + path, JSON.stringify(body), {
    headers: Object.assign({ 'Content-Type': 'application/json' }, headers),
  });
  if (answer.status >= 300) fail(`POST ${path}: ${answer.status} ${answer.body}`);
  return answer.json();
}

// who says which user of which room a virtual user is.
export function who(data, number) {
  const room = data.rooms[number % data.rooms.length];
  return { room: room.id, user: room.members[Math.floor(number / data.rooms.length) % MEMBERS] };
}

export function headers(data, user) {
  return { 'X-API-Key': data.key, 'X-User-Id': user, 'Content-Type': 'application/json' };
}

export function make() {
  if (!__ENV.MASTER_KEY) fail('give -e MASTER_KEY=…, the value of admin.master_key');
  const tenant = post('/v1/admin/tenants', { name: 'k6' }, { 'X-Master-Key': __ENV.MASTER_KEY });
  const data = { key: tenant.api_key, rooms: [] };
  for (let r = 0; r < rooms; r++) {
    const members = Array.from({ length: MEMBERS }, (_, i) => `k6-${r}-${i}`);
    const room = post('/v1/rooms', { type: 'group', name: `k6 ${r}`, members },
      { 'X-API-Key': data.key, 'X-User-Id': members[0] });
    data.rooms.push({ id: room.room_id, members });
  }
  return data;
}
