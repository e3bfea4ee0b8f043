// panel: what one user sees: the messages of the room, who else is there, and how the connection is doing.
//
// Whatever comes from the server is set by textContent, never as HTML.

const TYPING_AGAIN_MS = 3000; // while somebody types, it is said again this often
const TYPING_ENDS_MS = 5000;  // after the last key
const TYPING_SHOWN_MS = 8000; // without being said again
const TOP_PX = 40;            // so near to the top, older messages are fetched

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export function milliseconds(ms) {
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Panel {
  constructor({ template, client, peer, side }) {
    Object.assign(this, { client, peer });
    this.root = template.content.firstElementChild.cloneNode(true);
    this.find = selector => this.root.querySelector(selector);
    this.messages = this.find('.messages');
    this.rows = new Map();   // `seq` of what is in the log → its row
    this.unsent = new Map(); // client_id of what is on its way → its row
    this.showNames(side);
    this.hear();
    this.compose();
    this.followEnd();
  }

  showNames(side) {
    const { user } = this.client;
    this.root.id = `panel-${side}`;
    this.root.classList.add(side);
    this.root.setAttribute('aria-label', `The room as ${user}`);
    this.find('.avatar').textContent = [...user][0].toUpperCase();
    this.find('.name').textContent = user;
    this.messages.setAttribute('aria-label', `Messages that ${user} sees`);
    this.find('.text').placeholder = `Message as ${user}`;
    this.find('.text').setAttribute('aria-label', `Message as ${user}`);
    this.showPeer(null);
  }

  hear() {
    const on = (type, handler) => this.client.addEventListener(type, event => handler(event.detail));
    on('state', detail => this.showState(detail));
    on('sent', detail => this.showSent(detail));
    on('ok', detail => this.showOk(detail));
    on('failed', detail => this.showFailed(detail));
    on('message', detail => this.showEvent(detail));
    on('resumed', detail => this.takeBack(detail));
    on('caught_up', detail => this.showCaughtUp(detail));
    on('presence', ({ user_id, status }) => { if (user_id === this.peer) this.showPeer(status); });
    on('roster', ({ items, whole }) => {
      const peer = items.find(each => each.user_id === this.peer);
      if (peer || whole) this.showPeer(peer ? peer.status : 'offline');
    });
    on('typing', ({ user_id, action }) => { if (user_id === this.peer) this.showTyping(action === 'start'); });
  }

  // --- the connection ------------------------------------------------------------------------------------------------

  showState({ state, retry_ms, why }) {
    const text = { connecting: 'connecting', open: 'connected', refused: why, waiting: 'reconnecting in' }[state];
    this.root.dataset.state = state;
    this.find('.state-text').textContent = text;
    this.find('.state').title = why || '';
    clearInterval(this.countdown);
    this.find('.countdown').textContent = '';
    if (state === 'waiting') this.countDown(performance.now() + retry_ms);
    if (state !== 'open') { this.showPeer(null); this.showTyping(false); }
    for (const field of this.find('.composer').elements) field.disabled = state === 'refused'; // nothing written now would ever leave
    if (state === 'refused') this.note(`Not connected: ${why}`, 'bad');
    if (state === 'waiting' && !this.lost) { this.lost = true; this.note('Connection lost. What you write is kept and sent again.'); }
    if (state === 'open') this.lost = false;
  }

  countDown(until) {
    const show = () => {
      const left = Math.max(0, until - performance.now());
      this.find('.countdown').textContent = `${(left / 1000).toFixed(1)} s`;
    };
    show();
    this.countdown = setInterval(show, 100);
  }

  showCaughtUp({ recovered, count }) {
    const missed = count === 0 ? 'nothing missed' : `${count} ${count === 1 ? 'event' : 'events'} caught up, nothing missed`;
    if (recovered) this.note(`Resumed: ${missed}`, 'good', this.unsent.values().next().value); // what is sent again comes behind
    else this.note(`Not recovered: the server has lost the end of what was here (recovered: false)`, 'bad');
  }

  showPeer(status) {
    const names = { online: 'online', offline: 'offline', away: 'away' };
    this.root.dataset.peer = status || 'unknown';
    this.find('.peer-text').textContent = status ? `${this.peer} is ${names[status] || status}` : `with ${this.peer}`;
    if (status === 'offline') this.showTyping(false);
  }

  showTyping(on) {
    clearTimeout(this.typingShown);
    this.find('.typing').textContent = on ? `${this.peer} is typing…` : '';
    if (on) this.typingShown = setTimeout(() => this.showTyping(false), TYPING_SHOWN_MS);
  }

  // --- messages --------------------------------------------------------------------------------------------------------

  showSent({ client_id, content }) {
    const row = this.bubble(content, true);
    row.dataset.state = 'sending';
    row.querySelector('.took').textContent = this.client.isOpen ? 'sending' : 'waiting for the server';
    this.unsent.set(client_id, row);
    this.append(row, true);
  }

  // The answer and the push of one's own message come in either order; either one gives the row its place.
  showOk({ client_id, seq, created_at, took_ms }) {
    const row = this.unsent.get(client_id) || this.rows.get(seq);
    if (!row) return;
    this.unsent.delete(client_id);
    row.dataset.state = 'durable';
    row.querySelector('.took').textContent = milliseconds(took_ms);
    row.querySelector('.took').title = 'From click to ok: the message is on disk';
    this.place(row, seq, created_at);
  }

  showFailed({ client_id, code, why }) {
    const row = this.unsent.get(client_id);
    if (!row) return;
    this.unsent.delete(client_id);
    row.dataset.state = 'failed';
    row.querySelector('.took').textContent = `not sent: ${why || code}`;
  }

  showEvent(event) {
    const { type, seq, created_at } = event;
    if (type !== 'message') { this.showChange(event); return; }
    const mine = event.sender_id === this.client.user;
    // Its own row waits for `ok`, which brings the time that it took.
    const row = this.rows.get(seq) || (mine && this.unsent.get(event.client_id)) || this.bubble(event.content, mine, event.sender_id);
    if (row.dataset.state === 'sending') row.dataset.state = 'durable';
    if (!mine) this.showTyping(false);
    this.place(row, seq, created_at);
  }

  showChange({ type, seq, user_ids, count, user_id, role }) {
    const who = user_ids ? user_ids.join(', ') : `${count} users`;
    const texts = { user_joined: `${who} joined`, user_left: `${who} left`, 'room.updated': `${user_id} is now ${role}` };
    const row = element('li', 'change', texts[type] || type);
    this.place(row, seq);
  }

  bubble(content, mine, sender) {
    const row = element('li', mine ? 'message mine' : 'message');
    if (!mine && sender !== this.peer) row.append(element('span', 'sender', sender));
    row.append(element('span', 'content', content));
    const meta = element('span', 'meta');
    meta.append(element('span', 'seq'), element('time'), element('span', 'took'));
    row.append(meta);
    return row;
  }

  // place puts a row where its seq belongs, nearly always at the end. What is being read stays where it is.
  place(row, seq, created_at) {
    if (created_at && row.querySelector('time')) {
      row.querySelector('.seq').textContent = `#${seq}`;
      row.querySelector('time').textContent = time.format(new Date(created_at));
      row.querySelector('time').dateTime = created_at;
    }
    if (this.rows.get(seq) === row) return;
    this.rows.set(seq, row);
    row.dataset.seq = seq;
    let before = null;
    for (let at = this.messages.lastElementChild; at; at = at.previousElementSibling) {
      if (at === row) continue;
      if (at.dataset.seq && Number(at.dataset.seq) < seq) break;
      if (at.dataset.seq || this.isUnsent(at)) before = at;
    }
    const follow = this.isAtEnd();
    const height = this.messages.scrollHeight;
    this.messages.insertBefore(row, before);
    if (follow) this.toEnd();
    else if (row.offsetTop < this.messages.scrollTop + TOP_PX) this.messages.scrollTop += this.messages.scrollHeight - height;
  }

  isUnsent(row) { return [...this.unsent.values()].includes(row); }

  takeBack({ recovered, from }) {
    if (recovered) return;
    for (const [seq, row] of this.rows) {
      if (seq < from) continue;
      row.remove();
      this.rows.delete(seq);
    }
  }

  note(text, mood, before) { this.append(element('li', `note ${mood || ''}`, text), this.isAtEnd(), before); }

  append(row, follow, before) {
    this.messages.insertBefore(row, before || null);
    if (follow) this.toEnd();
  }

  // followEnd keeps the newest message in view when the panel changes its size.
  followEnd() {
    let atEnd = true;
    this.messages.addEventListener('scroll', () => {
      atEnd = this.isAtEnd();
      if (this.messages.scrollTop < TOP_PX) this.client.loadEarlier();
    }, { passive: true });
    new ResizeObserver(() => { if (atEnd) this.toEnd(); }).observe(this.messages);
  }

  isAtEnd() { return this.messages.scrollHeight - this.messages.scrollTop - this.messages.clientHeight < 60; }
  toEnd() { this.messages.scrollTop = this.messages.scrollHeight; }

  // --- writing -----------------------------------------------------------------------------------------------------------

  compose() {
    const text = this.find('.text');
    this.find('.composer').addEventListener('submit', event => {
      event.preventDefault();
      if (!text.value.trim()) return;
      this.client.send(text.value);
      text.value = '';
      this.stopTyping();
      text.focus();
    });
    text.addEventListener('input', () => (text.value ? this.keepTyping() : this.stopTyping()));
    text.addEventListener('blur', () => this.stopTyping());
  }

  keepTyping() {
    const now = performance.now();
    if (!this.typingSaid || now - this.typingSaid > TYPING_AGAIN_MS) {
      this.typingSaid = now;
      this.client.typing(true);
    }
    clearTimeout(this.typingEnds);
    this.typingEnds = setTimeout(() => this.stopTyping(), TYPING_ENDS_MS);
  }

  stopTyping() {
    clearTimeout(this.typingEnds);
    if (this.typingSaid) this.client.typing(false);
    this.typingSaid = null;
  }
}
