// browser: Debian's Chromium without a window, and the page in it.

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { BUILD } from './gateway.mjs';

export const WAIT_MS = 20000;
const SHOTS = path.join(path.dirname(BUILD), 'page');

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

// openPage opens an address in a profile of its own. `problems` collects what the page must never have: errors of its
// scripts, and what its Content-Security-Policy refused. A server that is gone is no problem of the page.
export async function openPage(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', error => page.problems.push(String(error)));
  page.on('console', message => {
    const networkError = /Failed to load resource|WebSocket connection to|ERR_CONNECTION/.test(message.text());
    if (message.type() === 'error' && !networkError) page.problems.push(message.text());
  });
  page.on('dialog', dialog => { page.problems.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(address);
  return page;
}

// panelOf is one user's side of the page.
export function panelOf(page, side) {
  const root = page.locator(`#panel-${side}`);
  return {
    root,
    text: root.locator('.text'),
    state: root.locator('.state'),
    messages: root.locator('.messages'),
    typing: root.locator('.typing'),
    peer: root.locator('.peer'),
    connected: () => root.and(page.locator('[data-state="open"]')).waitFor(),
    row: content => root.locator('.message').filter({ has: page.locator('.content').getByText(content, { exact: true }) }),
    async say(content) {
      await root.locator('.text').fill(content);
      await root.locator('.text').press('Enter');
    },
    // rows: what the panel shows of the room's log, from above
    rows: () => root.locator('.messages > li[data-seq]').evaluateAll(items => items.map(item => ({
      seq: Number(item.dataset.seq),
      content: item.querySelector('.content')?.textContent,
      took: item.querySelector('.took')?.textContent,
    }))),
  };
}

export async function bothConnected(page) {
  const panels = [panelOf(page, 'left'), panelOf(page, 'right')];
  await Promise.all(panels.map(panel => panel.connected()));
  return panels;
}

export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
}
