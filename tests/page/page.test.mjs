// The page that `carillon dev` serves: two users talk, and neither a killed server nor what they write breaks it.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { Gateway } from './gateway.mjs';
import { bothConnected, launch, openPage, panelOf, shot } from './browser.mjs';

let browser, gateway, page;

before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });
beforeEach(async () => { gateway = await new Gateway().start(); page = null; });
afterEach(async () => {
  const problems = page?.problems ?? [];
  await page?.context().close();
  await gateway.discard();
  assert.deepEqual(problems, []);
});

const increasing = rows => rows.every((row, at) => at === 0 || row.seq === rows[at - 1].seq + 1);

test('two users talk, in order, and see when a message is on disk', async () => {
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  for (let i = 1; i <= 10; i++) {
    await alice.say(`from alice ${i}`);
    await bob.say(`from bob ${i}`);
  }
  for (const panel of [alice, bob]) {
    await panel.row('from bob 10').waitFor();
    await panel.row('from alice 10').waitFor();
    const rows = await panel.rows();
    assert.equal(rows.length, 20);
    assert.equal(rows[0].seq, 1);
    assert.ok(increasing(rows), JSON.stringify(rows));
  }
  await alice.row('from alice 10').and(page.locator('[data-state="durable"]')).waitFor();
  await alice.row('from alice 10').getByText(/^\d+(\.\d)? (ms|s)$/).waitFor();
  assert.match(await alice.row('from alice 1').locator('.seq').textContent(), /^#\d+$/);
  await page.locator('#durable').getByText('20', { exact: true }).waitFor();
  assert.match(await page.locator('#median').textContent(), /^\d+(\.\d)? (ms|s)$/);
  assert.deepEqual((await alice.rows()).map(row => row.content), (await bob.rows()).map(row => row.content));
});

test('what somebody writes is text, whatever it looks like', async () => {
  const attacks = [
    '<img src=x onerror="document.title=\'broken in\'">',
    '<script>document.title="broken in"</script>',
    '</span><h1>not a heading</h1>',
    '"><svg onload=alert(1)>',
  ];
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  const lobby = await gateway.lobby();
  await gateway.rest('alice', 'POST', `/rooms/${lobby}/members`, { members: ['<b>mallory</b>'] });
  await gateway.rest('<b>mallory</b>', 'POST', `/rooms/${lobby}/messages`, { content: attacks[0] });
  for (const attack of attacks.slice(1)) await alice.say(attack);
  for (const panel of [alice, bob]) {
    for (const attack of attacks) assert.equal(await panel.row(attack).locator('.content').textContent(), attack);
    await panel.messages.getByText('<b>mallory</b> joined', { exact: true }).waitFor();
  }
  await page.locator('#toggle-frames').click();
  await page.locator('#frame-list .text').getByText('not a heading').first().waitFor();
  assert.equal(await page.locator('.messages img, .messages script, .messages svg, .messages h1, .messages b, #frame-list img').count(), 0);
  assert.equal(await page.title(), 'Carillon');
});

test('a killed server loses nothing and doubles nothing', async () => {
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  const said = [];
  const talk = async (from, to) => {
    for (let i = from; i < to; i++) {
      const panel = i % 2 ? bob : alice;
      await panel.say(`message ${i}`);
      said.push(`message ${i}`);
    }
  };
  await talk(0, 12);
  gateway.process.kill('SIGSTOP'); // what is said now is on its way and never answered
  await talk(12, 15);
  const killed = gateway.end('SIGKILL');
  await talk(15, 30);
  await killed;
  await talk(30, 35);
  await alice.root.and(page.locator('[data-state="waiting"], [data-state="connecting"]')).waitFor();
  await shot(page, 'killed');
  await gateway.start();
  await bothConnected(page);
  await talk(35, 40);
  for (const panel of [alice, bob]) {
    for (const content of said) await panel.row(content).and(page.locator('[data-seq]')).waitFor();
    await panel.messages.getByText(/^Resumed: .*nothing missed$/).first().waitFor();
    const rows = await panel.rows();
    assert.ok(increasing(rows), JSON.stringify(rows));
    assert.deepEqual(rows.map(row => row.content).sort(), [...said].sort());
  }
  await page.locator('#durable').getByText('40', { exact: true }).waitFor();
  const events = await gateway.events();
  assert.deepEqual(events.map(event => event.seq), said.map((_, at) => at + 1));
  assert.deepEqual(events.map(event => event.content).sort(), [...said].sort());
  await shot(page, 'resumed');
});

test('a message whose answer was lost with the server is sent again and is there once', async () => {
  page = await openPage(browser, 'about:blank');
  let deaf = false;
  await page.routeWebSocket(/\/ws/, socket => {
    const server = socket.connectToServer();
    server.onMessage(text => { if (!deaf || !/^\{"type":"(ok|message)"/.test(text)) socket.send(text); });
  });
  await page.goto(gateway.address);
  const [alice, bob] = await bothConnected(page);
  await alice.say('heard');
  await bob.row('heard').waitFor();
  deaf = true;
  await alice.say('not answered');
  for (let looks = 0; looks < 1000 && (await gateway.events()).length < 2; looks++); // until it is on disk
  await gateway.end('SIGKILL');
  deaf = false;
  await gateway.start();
  for (const panel of [alice, bob]) {
    await panel.row('not answered').and(page.locator('[data-seq]')).waitFor();
    assert.deepEqual((await panel.rows()).map(row => row.content), ['heard', 'not answered']);
  }
  await alice.row('not answered').and(page.locator('[data-state="durable"]')).waitFor();
  await page.locator('#durable').getByText('2', { exact: true }).waitFor();
  assert.equal((await gateway.events()).length, 2);
});

test('a stopped server is waited for, as it asked', async () => {
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  await alice.say('before');
  await bob.row('before').waitFor();
  assert.equal(await gateway.end('SIGTERM'), 0);
  await alice.say('meanwhile');
  await alice.row('meanwhile').getByText('waiting for the server').waitFor();
  await gateway.start();
  await bob.row('meanwhile').waitFor();
  assert.deepEqual((await bob.rows()).map(row => row.content), ['before', 'meanwhile']);
});

test('what others said while the page was away is caught up', async () => {
  page = await openPage(browser, gateway.address);
  const [, bob] = await bothConnected(page);
  const lobby = await gateway.lobby();
  await gateway.end('SIGKILL');
  await panelOf(page, 'right').root.and(page.locator('[data-state="waiting"]')).waitFor();
  await gateway.start();
  for (let i = 0; i < 5; i++) await gateway.rest('alice', 'POST', `/rooms/${lobby}/messages`, { content: `missed ${i}` });
  await bothConnected(page);
  await bob.row('missed 4').waitFor();
  assert.deepEqual((await bob.rows()).map(row => row.content), [0, 1, 2, 3, 4].map(i => `missed ${i}`));
});

test('a page whose key is revoked says so and stops trying', async () => {
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  await gateway.revokeKey();
  for (const panel of [alice, bob]) {
    await panel.root.and(page.locator('[data-state="refused"]')).waitFor();
    await panel.messages.getByText(/^Not connected: /).waitFor();
    assert.ok(await panel.text.isDisabled());
  }
});


test('older messages come when one scrolls up to them', async () => {
  const lobby = await gateway.lobby();
  for (let i = 1; i <= 120; i++) await gateway.rest('alice', 'POST', `/rooms/${lobby}/messages`, { content: `old ${i}` });
  page = await openPage(browser, gateway.address);
  const [alice] = await bothConnected(page);
  await alice.row('old 120').waitFor();
  assert.equal((await alice.rows()).length, 50);
  for (let looks = 0; looks < 200 && (await alice.rows()).length < 120; looks++) {
    await alice.messages.evaluate(list => { list.scrollTop = 0; });
    await page.waitForTimeout(50);
  }
  const rows = await alice.rows();
  assert.ok(rows[0].seq === 1 && increasing(rows), JSON.stringify(rows));
  await alice.say('new 121');
  await alice.row('new 121').and(page.locator('[data-seq="121"]')).waitFor();
  assert.ok(increasing(await alice.rows()));
});

test('the key leaves the address, stays in the tab, and can be forgotten', async () => {
  page = await openPage(browser, gateway.address);
  await bothConnected(page);
  assert.equal(page.url(), `${gateway.origin}/`);
  await page.reload();
  await bothConnected(page);
  assert.ok(!(await page.content()).includes(gateway.key));
  await page.locator('#toggle-frames').click();
  assert.ok(!(await page.locator('#frames').textContent()).includes(gateway.key));
  assert.doesNotMatch(await page.locator('#frames').textContent(), /"ticket":"[^…]/);
  await page.getByRole('button', { name: 'Forget key' }).click();
  await page.getByLabel('API key').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.ok(!gateway.log.includes(gateway.key) && !gateway.log.includes('ticket='));
});

test('without a key the page asks for one, and says when it is wrong', async () => {
  page = await openPage(browser, `${gateway.origin}/`);
  await page.getByLabel('API key').fill('ck_wrong');
  await page.getByRole('button', { name: 'Open the room' }).click();
  await page.getByRole('alert').getByText(/unknown or revoked/).waitFor();
  await shot(page, 'form');
  await page.getByLabel('API key').fill(gateway.key);
  await page.getByLabel('One user').fill('carol');
  await page.getByLabel('The other').fill('dave');
  await page.keyboard.press('Enter');
  const [carol, dave] = await bothConnected(page);
  await carol.say('another room');
  await dave.row('another room').waitFor();
});

test('users of any name can talk', async () => {
  page = await openPage(browser, `${gateway.address}&left=${encodeURIComponent('Zoë & co')}&right=${encodeURIComponent('李')}`);
  const [zoe, li] = await bothConnected(page);
  await zoe.say('你好');
  await li.row('你好').waitFor();
  assert.equal(await zoe.root.locator('.name').textContent(), 'Zoë & co');
  assert.equal((await gateway.rest('alice', 'GET', `/users/${encodeURIComponent('李')}`)).user_id, '李');
});

test('the page can be used by keyboard alone', async () => {
  page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  await page.waitForFunction(() => document.activeElement.matches('#panel-left .text'));
  await page.keyboard.type('typed');
  await page.keyboard.press('Enter');
  await bob.row('typed').waitFor();
  assert.equal(await alice.text.inputValue(), '');
  for (let i = 0; i < 8 && !(await bob.text.evaluate(input => input === document.activeElement)); i++) await page.keyboard.press('Tab');
  await page.keyboard.type('answered');
  await page.keyboard.press('Enter');
  await alice.row('answered').waitFor();
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['phone', { colorScheme: 'light', viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true }],
  ['phone-dark', { colorScheme: 'dark', viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true }],
]) {
  test(`nothing is cut off (${name})`, async () => {
    page = await openPage(browser, gateway.address, options);
    const [alice, bob] = await bothConnected(page);
    await shot(page, `${name}-empty`);
    await alice.say('Did you see the bells at the old tower?');
    await bob.row('Did you see the bells at the old tower?').waitFor();
    await bob.say('Yes! Fifty-three of them, and one keyboard for all.');
    await alice.row('Yes! Fifty-three of them, and one keyboard for all.').waitFor();
    await alice.say('One message in, many sockets out 🔔');
    await bob.row('One message in, many sockets out 🔔').waitFor();
    await bob.say('W'.repeat(200));
    await alice.row('W'.repeat(200)).waitFor();
    await alice.text.fill('And every one of them has a number…');
    await shot(page, name);
    const fits = await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight);
    assert.ok(fits, 'the page itself never scrolls');
    for (const panel of [alice, bob]) {
      const box = await panel.text.boundingBox();
      assert.ok(box.width > 120 && box.y + box.height <= page.viewportSize().height);
    }
    await page.locator('#toggle-frames').click();
    await page.locator('#frame-list .text').first().waitFor();
    await shot(page, `${name}-frames`);
  });
}
