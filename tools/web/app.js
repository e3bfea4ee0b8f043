// app: the key, the room, two panels, and the frames between them and the server.

import { Client, Problem, request } from './client.js';
import { Panel, milliseconds } from './panel.js';

const ROOM_NAME = 'lobby';
const DEVICE = 'page'; // the page says itself where it stopped, so one name serves all tabs
const FRAMES_SHOWN = 300;
const TIMES_KEPT = 100;

const byId = id => document.getElementById(id);

// --- the key -------------------------------------------------------------------------------------------------------

// keyFromAddress takes the key out of the address, where the next one to look at the screen would see it.
function keyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.get('key')) return null;
  history.replaceState(null, '', location.pathname + location.search);
  return { key: given.get('key'), left: given.get('left') || 'alice', right: given.get('right') || 'bob' };
}

function keptCredentials() {
  try { return JSON.parse(sessionStorage.getItem('carillon')); } catch { return null; }
}

function askForKey(why) {
  const form = byId('key-form');
  form.hidden = false;
  byId('key-error').hidden = !why;
  byId('key-error').textContent = why || '';
  byId('key').focus();
}

byId('key-form').addEventListener('submit', event => {
  event.preventDefault();
  const fields = new FormData(event.target);
  open({ key: fields.get('key').trim(), left: fields.get('left').trim(), right: fields.get('right').trim() });
});

byId('forget').addEventListener('click', () => {
  sessionStorage.removeItem('carillon');
  location.replace('/');
});

addEventListener('hashchange', () => {
  const given = keyFromAddress();
  if (!given) return;
  sessionStorage.setItem('carillon', JSON.stringify(given));
  location.reload();
});

// --- the room ------------------------------------------------------------------------------------------------------

// findRoom finds the first user's lobby, or makes one, and sees to it that the other user is in it.
async function findRoom({ key, left, right }) {
  const as = (user, method, path, body) => request(key, user, method, path, body, showFrame.bind(null, user));
  let cursor = null, room = null;
  do {
    const page = await as(left, 'GET', `/rooms?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
    room = page.items.find(each => each.name === ROOM_NAME && each.type === 'group');
    cursor = page.next;
  } while (!room && cursor);
  if (!room) return as(left, 'POST', '/rooms', { type: 'group', name: ROOM_NAME, members: [left, right] });
  try {
    await as(right, 'GET', `/rooms/${room.room_id}`);
  } catch (error) {
    if (!(error instanceof Problem) || (error.status !== 403 && error.status !== 404)) throw error;
    await as(left, 'POST', `/rooms/${room.room_id}/members`, { members: [right] });
  }
  return room;
}

async function open(credentials) {
  const { key, left, right } = credentials;
  if (left === right) { askForKey('The two users need different names.'); return; }
  let room;
  try {
    room = await findRoom(credentials);
  } catch (error) {
    const refused = error instanceof Problem && !error.temporary;
    if (refused) sessionStorage.removeItem('carillon');
    askForKey(refused ? `${error.message}.` : 'The server does not answer. Is it running?');
    byId('key').value = key;
    return;
  }
  sessionStorage.setItem('carillon', JSON.stringify(credentials));
  byId('key-form').hidden = true;
  byId('room-name').textContent = room.name;
  for (const id of ['stats', 'tools', 'panels']) byId(id).hidden = false;
  showSide(key, room.room_id, left, right, 'left');
  showSide(key, room.room_id, right, left, 'right');
  document.querySelector('.panel .text').focus();
}

function showSide(key, room_id, user, peer, side) {
  const client = new Client({ key, user, device: DEVICE, room_id });
  const panel = new Panel({ template: byId('panel-template'), client, peer, side });
  client.addEventListener('ok', event => count(event.detail));
  client.addEventListener('frame', ({ detail }) => showFrame(user, detail.direction, detail.title, detail.text));
  byId('panels').append(panel.root);
  client.start();
}

// --- what is measured ------------------------------------------------------------------------------------------------

const times = [];
let durable = 0;

function count({ took_ms, delayed }) {
  byId('durable').textContent = String(++durable);
  if (delayed) return; // that time says how long the server was away
  times.push(took_ms);
  if (times.length > TIMES_KEPT) times.shift();
  const sorted = [...times].sort((a, b) => a - b);
  byId('median').textContent = milliseconds(sorted[sorted.length >> 1]);
}

// --- the frames ------------------------------------------------------------------------------------------------------

const frameList = byId('frame-list');

function showFrame(user, direction, title, text) {
  const row = document.createElement('li');
  row.className = direction;
  for (const [name, value] of [['user', user], ['arrow', { in: '←', out: '→', rest: '⇄' }[direction]], ['title', title], ['text', text]]) {
    const part = document.createElement('span');
    part.className = name;
    part.textContent = value;
    row.append(part);
  }
  const follow = frameList.scrollHeight - frameList.scrollTop - frameList.clientHeight < 40;
  frameList.append(row);
  while (frameList.childElementCount > FRAMES_SHOWN) frameList.firstElementChild.remove();
  if (follow) frameList.scrollTop = frameList.scrollHeight;
}

byId('clear-frames').addEventListener('click', () => frameList.replaceChildren());
byId('toggle-frames').addEventListener('click', event => {
  const shown = byId('frames').hidden;
  byId('frames').hidden = !shown;
  event.target.setAttribute('aria-expanded', String(shown));
  if (shown) frameList.scrollTop = frameList.scrollHeight;
});

// --- at the start ------------------------------------------------------------------------------------------------------

const credentials = keyFromAddress() || keptCredentials();
if (credentials) open(credentials);
else askForKey();
