// client: one user's connection to a Carillon gateway, for as long as the page is open.
//
// It keeps, for its room, the position [epoch, seq] up to which it has everything, and what it has sent and has no
// answer to. When the connection breaks it comes back by itself, says where it stopped (hello.resume) and sends again
// what was not answered, with the same client_id. So a message is there once, whatever broke and whenever.

const SUBPROTOCOL = 'carillon.v1.json';
const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 8000;
const OPEN_TIMEOUT_MS = 10000;  // from asking for a ticket to welcome
const PING_INTERVAL_MS = 20000; // of silence; no answer for as long again: the connection is dead
const HISTORY_LIMIT = 50;

// Problem: an error that the server answered, of REST or the WebSocket.
export class Problem extends Error {
  constructor(status, code, detail, temporary) {
    super(detail || code);
    Object.assign(this, { status, code, temporary });
  }
}

// request makes one REST call as a user and returns its JSON. onFrame is told, with secrets left out.
export async function request(key, user, method, path, body, onFrame = () => {}) {
  const headers = { 'X-API-Key': utf8(key), 'X-User-Id': utf8(user) };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await fetch(`/v1${path}`, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store',
    signal: AbortSignal.timeout(OPEN_TIMEOUT_MS),
  });
  const text = await response.text();
  let answer = {};
  try { answer = text ? JSON.parse(text) : {}; } catch { /* a proxy's page: the status says enough */ }
  onFrame('rest', `${method} /v1${path} → ${response.status}`, JSON.stringify(answer.ticket ? { ...answer, ticket: '…' } : answer));
  if (response.ok) return answer;
  throw new Problem(response.status, answer.code || `http.${response.status}`, answer.detail, response.status >= 500 || response.status === 429);
}

// utf8 writes a text so that a header carries its UTF-8: fetch takes a character for each byte.
function utf8(text) { return String.fromCharCode(...new TextEncoder().encode(text)); }

// uniqueId works in pages that came without TLS too, where crypto.randomUUID is missing.
function uniqueId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, '0')).join('');
}

// Client fires, each with a detail of its own:
//   state    {state: connecting|open|waiting|refused, retry_ms?, why?}
//   message  an event of the room's log, in the order of seq, each once
//   sent     {client_id, content}                      written down here, on its way
//   ok       {client_id, seq, created_at, took_ms, delayed} on disk; delayed: it had to wait for a connection
//   failed   {client_id, code, why}                    refused for good
//   resumed  {recovered, from, head}                   and caught_up {recovered, count} when all of it has come
//   roster   {items: [{user_id, status}], whole}       who is online, then
//   presence {user_id, status}, typing {user_id, action}
//   frame    {direction: in|out|rest, title, text}
export class Client extends EventTarget {
  constructor({ key, user, device, room_id }) {
    super();
    Object.assign(this, { key, user, device, room_id });
    this.socket = null;
    this.attempt = 0;
    this.retryAfterMs = null; // when a stopping server wants to see this client again
    this.lastId = 0;
    this.asked = new Map();   // request id → what its answer is for
    this.pending = new Map(); // client_id → {client_id, content, started, delayed}
    this.position = null;     // [epoch, seq]: everything up to it is here
    this.catchUp = null;      // {recovered, head, from}: while a replay is under way
    this.oldest = 1;          // seq of the first message that is here; 1: there is none before it
    this.early = null;        // live events that came before the first page of history
    this.lacks = new Set();   // operations that this server does not know
    addEventListener('online', () => this.connectNow());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.connectNow(); });
  }

  // --- what the page wants ---------------------------------------------------------------------------------------

  start() { this.connect(); }

  // send keeps a message until the server has said that it is on disk. Returns its client_id.
  send(content) {
    const message = { client_id: uniqueId(), content, started: performance.now(), delayed: !this.isOpen };
    this.pending.set(message.client_id, message);
    this.fire('sent', message);
    if (this.isOpen) this.sendPending(message);
    return message.client_id;
  }

  typing(on) { if (this.isOpen) this.ask(on ? 'typing.start' : 'typing.stop', { room_id: this.room_id }, { optional: true }); }

  get isOpen() { return this.state === 'open'; }

  // connectNow ends a pause: the network is back, or somebody looks at the page again.
  connectNow() {
    if (this.state !== 'waiting') return;
    clearTimeout(this.retryTimer);
    this.connect();
  }

  // --- connecting --------------------------------------------------------------------------------------------------

  async connect() {
    this.setState('connecting');
    let socket = null;
    try {
      const { ticket } = await this.rest('POST', '/auth/tickets');
      const url = new URL(`/ws?ticket=${encodeURIComponent(ticket)}`, location.href);
      url.protocol = url.protocol.replace('http', 'ws');
      socket = new WebSocket(url, [SUBPROTOCOL]);
    } catch (error) {
      if (error instanceof Problem && !error.temporary) this.refuse(error.message);
      else this.retry(error instanceof Problem ? error.message : 'no answer');
      return;
    }
    this.socket = socket;
    const mine = handler => event => { if (this.socket === socket) handler(event); };
    socket.onopen = mine(() => this.hello());
    socket.onmessage = mine(event => this.receive(event.data));
    socket.onclose = mine(event => this.closed(event.code, event.reason));
    this.watch(OPEN_TIMEOUT_MS);
  }

  hello() {
    const hello = { device: this.device, rooms: [this.room_id] };
    if (this.position) hello.resume = { [this.room_id]: this.position };
    this.ask('hello', hello, {});
  }

  welcome(frame) {
    this.attempt = 0;
    this.retryAfterMs = null;
    this.lacks.clear(); // it may be another version by now
    this.setState('open');
    const room = frame.rooms.find(each => each.room_id === this.room_id);
    if (!room) { this.refuse(`${this.user} is not in the room`); return; }
    if (!this.position) this.loadHistory(room);
    // Again in the order in which they were written; what is on disk already gets its first answer again.
    for (const message of this.pending.values()) {
      message.delayed = true;
      this.sendPending(message);
    }
    this.ask('presence.subscribe', { room_id: this.room_id }, { optional: true });
    this.loadPresence();
  }

  closed(code, reason) {
    this.leave();
    if (code >= 4000 && code < 4100) this.refuse(`${reason || 'closed by the server'} (${code})`);
    else if (code >= 4200 && code < 4300) this.retry('asked to come back', 0);
    else if (this.retryAfterMs !== null) this.retry('the server is stopping', this.retryAfterMs);
    else this.retry('connection lost');
  }

  // leave forgets the socket, and with it the questions that it will not answer.
  leave() {
    clearTimeout(this.watchTimer);
    clearTimeout(this.ackTimer);
    this.ackTimer = null;
    const socket = this.socket;
    this.socket = null;
    this.asked.clear();
    this.catchUp = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close();
  }

  refuse(why) {
    this.leave();
    this.setState('refused', { why });
  }

  // retry waits a random part of a time that doubles: clients of a server that comes back do not come at once.
  retry(why, least_ms) {
    this.leave();
    const longest = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.attempt++);
    const retry_ms = least_ms === undefined ? longest * (0.25 + 0.75 * Math.random()) : least_ms;
    this.retryAfterMs = null;
    this.setState('waiting', { retry_ms, why });
    this.retryTimer = setTimeout(() => this.connect(), retry_ms);
  }

  setState(state, detail = {}) {
    this.state = state;
    this.fire('state', { state, ...detail });
  }

  // watch gives the server a time to say something. On an open socket silence is asked about once.
  watch(ms) {
    clearTimeout(this.watchTimer);
    this.watchTimer = setTimeout(() => {
      if (!this.isOpen || this.pinged) { this.retry('no answer'); return; }
      this.pinged = true;
      this.write({ type: 'ping' });
      this.watch(PING_INTERVAL_MS);
    }, ms);
  }

  // --- asking --------------------------------------------------------------------------------------------------------

  rest(method, path, body) {
    return request(this.key, this.user, method, path, body, (direction, title, text) => this.fire('frame', { direction, title, text }));
  }

  // ask sends a request; `purpose` is found again by the answer. `optional`: a server that does not know it is not asked again.
  ask(type, members, purpose) {
    if (this.lacks.has(type)) return;
    const id = ++this.lastId;
    this.asked.set(id, { type, ...purpose });
    this.write({ type, id, ...members });
  }

  write(frame) {
    const text = JSON.stringify(frame);
    this.fire('frame', { direction: 'out', title: frame.type, text });
    this.socket.send(text);
  }

  sendPending(message) {
    const { client_id, content } = message;
    this.ask('send_message', { room_id: this.room_id, content, client_id }, { client_id });
  }

  // Acks move the user's cursor: where a device without a position of its own begins. One for many messages is enough.
  ackSoon() {
    if (this.ackTimer) return;
    this.ackTimer = setTimeout(() => {
      this.ackTimer = null;
      if (this.isOpen && this.position) this.write({ type: 'ack', room_id: this.room_id, seq: this.position[1] });
    }, 200);
  }

  // --- hearing -------------------------------------------------------------------------------------------------------

  receive(text) {
    const frame = JSON.parse(text);
    this.fire('frame', { direction: 'in', title: frame.type, text });
    this.pinged = false;
    if (this.isOpen) this.watch(PING_INTERVAL_MS);
    const asked = this.asked.get(frame.re);
    this.asked.delete(frame.re);
    switch (frame.type) {
      case 'welcome': this.welcome(frame); break;
      case 'ok': this.answered(asked, frame); break;
      case 'error': this.failed(asked, frame); break;
      case 'resumed': this.resumed(frame); break;
      case 'typing':
      case 'presence.update':
        if (!frame.room_id || frame.room_id === this.room_id) this.fire(frame.type === 'typing' ? 'typing' : 'presence', frame);
        break;
      case 'server.shutdown': this.retryAfterMs = frame.reconnect_after_ms; break;
      default: if (frame.room_id === this.room_id && frame.seq) this.event(frame);
    }
  }

  answered(asked, frame) {
    if (asked?.type === 'history') this.history(asked, frame);
    const message = this.pending.get(asked?.client_id);
    if (!message) return;
    this.pending.delete(message.client_id);
    this.fire('ok', { client_id: message.client_id, seq: frame.seq, created_at: frame.created_at, took_ms: performance.now() - message.started, delayed: message.delayed });
  }

  failed(asked, frame) {
    if (asked?.optional) {
      if (frame.code === 'type.unknown') this.lacks.add(asked.type);
    } else if (asked?.client_id) {
      const message = this.pending.get(asked.client_id);
      if (frame.temporary && message) {
        setTimeout(() => { if (this.isOpen && this.pending.has(message.client_id)) this.sendPending(message); }, 1000);
        return;
      }
      this.pending.delete(asked.client_id);
      this.fire('failed', { client_id: asked.client_id, code: frame.code, why: frame.detail });
    } else if (asked?.type === 'history' && !asked.earlier) {
      this.retry(frame.detail);
    } else if (asked?.type === 'hello' && !frame.temporary) {
      this.refuse(frame.detail);
    }
  }

  // --- the room's log ----------------------------------------------------------------------------------------------

  loadHistory(room) {
    this.early = [];
    this.ask('history', { room_id: this.room_id, before_seq: room.head + 1, limit: HISTORY_LIMIT }, { epoch: room.epoch, head: room.head });
  }

  // loadEarlier asks for the messages before the first one that is here.
  loadEarlier() {
    if (!this.isOpen || this.oldest === 1 || [...this.asked.values()].some(each => each.type === 'history')) return;
    this.ask('history', { room_id: this.room_id, before_seq: this.oldest, limit: HISTORY_LIMIT }, { earlier: true });
  }

  history({ earlier, epoch, head }, { items }) {
    this.oldest = items.length === HISTORY_LIMIT ? items[0].seq : 1;
    for (const item of items) this.fire('message', { type: 'message', ...item });
    if (earlier) return;
    this.position = [epoch, head];
    const early = this.early;
    this.early = null;
    for (const event of early) this.event(event);
    this.ackSoon();
  }

  resumed({ epoch, recovered, from, head }) {
    // Not recovered: the server does not have what followed the position. What is held from `from` on is void.
    this.position = [epoch, from - 1];
    this.catchUp = { recovered, from, head };
    this.fire('resumed', { recovered, from, head });
    this.caughtUp();
  }

  caughtUp() {
    if (!this.catchUp || this.position[1] < this.catchUp.head) return;
    const { recovered, from, head } = this.catchUp;
    this.catchUp = null;
    this.fire('caught_up', { recovered, count: head - from + 1 });
  }

  event(frame) {
    if (this.early) { this.early.push(frame); return; }
    if (frame.seq <= this.position[1]) return; // a duplicate is possible after a resume, a hole is not
    this.position = [this.position[0], frame.seq];
    this.fire('message', frame);
    this.caughtUp();
    this.ackSoon();
  }

  // --- who is there ------------------------------------------------------------------------------------------------

  async loadPresence() {
    if (this.lacks.has('presence')) return;
    try {
      const answer = await this.rest('GET', `/rooms/${this.room_id}/presence`);
      this.fire('roster', { items: answer.items, whole: !answer.next });
    } catch (error) {
      if (error instanceof Problem && error.status === 404) this.lacks.add('presence');
    }
  }

  fire(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
