// Who is there and who is typing, as the page shows it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway } from './gateway.mjs';
import { bothConnected, launch, openPage, shot, WAIT_MS } from './browser.mjs';

let browser, gateway;

before(async () => {
  browser = await launch();
  gateway = await new Gateway().start();
});
after(async () => {
  await browser?.close();
  await gateway?.discard();
});

test('typing is shown to the other user and ends', async () => {
  const page = await openPage(browser, gateway.address);
  const [alice, bob] = await bothConnected(page);
  await alice.text.pressSequentially('hel');
  await bob.typing.getByText('alice is typing…').waitFor();
  await shot(page, 'typing');
  await alice.text.fill('');
  await bob.typing.getByText('alice is typing…').waitFor({ state: 'detached' });
  await alice.text.pressSequentially('hello');
  await bob.typing.getByText('alice is typing…').waitFor();
  await alice.text.press('Enter');
  await bob.row('hello').waitFor();
  await bob.typing.getByText('alice is typing…').waitFor({ state: 'detached' });
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('a user is shown as online while a socket is there, and as offline after the last one', async () => {
  const page = await openPage(browser, `${gateway.address}&left=alice&right=erin`);
  const [alice, erin] = await bothConnected(page);
  await alice.peer.getByText('erin is online').waitFor();
  await erin.peer.getByText('alice is online').waitFor();
  // the other side of a second page goes on without this one
  const other = await openPage(browser, `${gateway.address}&left=erin&right=frank`);
  const [, frank] = await bothConnected(other);
  await frank.peer.getByText('erin is online').waitFor();
  await page.context().close();
  assert.deepEqual(other.problems, []);
  await other.context().close();

  const last = await openPage(browser, `${gateway.address}&left=alice&right=erin`);
  const [, lastErin] = await bothConnected(last);
  await lastErin.peer.getByText('alice is online').waitFor();
  const lobby = await gateway.lobby();
  const deadline = Date.now() + WAIT_MS;
  await last.context().close();
  for (;;) { // the grace is 5 s
    const { items } = await gateway.rest('alice', 'GET', `/rooms/${lobby}/presence`);
    if (!items.some(each => each.user_id === 'erin' && each.status === 'online')) break;
    assert.ok(Date.now() < deadline, 'erin is still online');
    await new Promise(resolve => { setTimeout(resolve, 250); });
  }
});
