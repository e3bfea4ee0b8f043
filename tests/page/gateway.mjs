// gateway: `carillon dev` on a directory of its own, which a test may kill and start again on the same port.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const REPOSITORY = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../..');
export const BUILD = path.resolve(process.env.CARILLON_BUILD ?? path.join(REPOSITORY, 'build/release'));
const START_TIMEOUT_MS = 20000;
const MASTER_KEY = 'of the page tests';

export class Gateway {
  constructor() {
    this.directory = mkdtempSync(path.join(tmpdir(), 'carillon-page-'));
    this.data = path.join(this.directory, 'data');
    this.port = 0;
  }

  // start resolves when the demo is ready, with what was printed in `said`.
  async start() {
    this.said = '';
    this.log = '';
    this.process = spawn(path.join(BUILD, 'carillon'),
      ['dev', '--data', this.data, '--listen', `127.0.0.1:${this.port}`, '--cores', '2', '--set', 'drain.timeout_s=2', '--set', `admin.master_key=${MASTER_KEY}`],
      { stdio: ['ignore', 'pipe', 'pipe'], env: withoutSettings(process.env) });
    this.ended = new Promise(resolve => this.process.once('exit', (code, signal) => resolve(signal ?? code)));
    this.process.stdout.on('data', text => { this.said += text; });
    this.process.stderr.on('data', text => { this.log += text; });
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!this.said.includes('Administer it:')) {
      if (Date.now() > deadline || this.process.exitCode !== null) throw new Error(`no demo:\n${this.said}\n${this.log}`);
      await new Promise(resolve => { setTimeout(resolve, 20); });
    }
    this.address = /http:\/\/\S+#key=\S+/.exec(this.said)[0];
    this.origin = new URL(this.address).origin;
    this.port = Number(new URL(this.address).port);
    this.key = readFileSync(path.join(this.data, 'dev-key'), 'utf8').trim();
    return this;
  }

  async end(signal) {
    this.process.kill(signal);
    return this.ended;
  }

  async discard() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.end('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }

  // rest makes one call as a user and returns the JSON of a success.
  async rest(user, method, target, body) {
    const response = await fetch(`${this.origin}/v1${target}`, {
      method, headers: { 'X-API-Key': this.key, 'X-User-Id': user }, body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${target}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async revokeKey() {
    const { tenant_id } = (await this.rest('alice', 'GET', '/rooms')).items[0];
    const key_id = this.key.split('_')[1];
    const response = await fetch(`${this.origin}/v1/admin/tenants/${tenant_id}/keys/${key_id}`, {
      method: 'DELETE', headers: { 'X-Master-Key': MASTER_KEY },
    });
    if (response.status !== 204) throw new Error(`the key was not revoked: ${response.status}`);
  }

  async lobby() { return (await this.rest('alice', 'GET', '/rooms')).items.find(room => room.name === 'lobby').room_id; }

  async events() { return (await this.rest('alice', 'GET', `/rooms/${await this.lobby()}/events?limit=1000`)).items; }
}

function withoutSettings(environment) {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('CARILLON_')));
}
