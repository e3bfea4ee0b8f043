// Who is there and who is typing, as the page shows it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Gateway } from './gateway.mjs';
import { bothConnected, launch, openPage, shot } from './browser.mjs';

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
  const page = await openPage(browser, 'about:blank');
  const sockets = {};
  let cut = false; // nobody comes in
  await page.routeWebSocket(/\/ws/, socket => {
    if (cut) {
      socket.close({ code: 4100, reason: 'of the test' });
      return;
    }
    const server = socket.connectToServer();
    server.onMessage(text => {
      const frame = JSON.parse(text);
      if (frame.type === 'welcome') sockets[frame.user_id] = { socket, server };
      socket.send(text);
    });
  });
  await page.goto(gateway.address);
  const [alice, bob] = await bothConnected(page);
  await alice.peer.getByText('bob is online').waitFor();
  await bob.peer.getByText('alice is online').waitFor();
  cut = true;
  await sockets.bob.server.close();
  await sockets.bob.socket.close();
  await alice.peer.getByText('bob is offline').waitFor(); // 5 s later
  cut = false;
  await bob.connected();
  await alice.peer.getByText('bob is online').waitFor();
  assert.deepEqual(page.problems, []);
  await page.context().close();
});
