// Shows new calls while the page of approvals is open. The page works without it.
'use strict';

const PAUSE = 3000; // milliseconds between two looks
const main = document.querySelector('main');
const title = document.title;

const calls = (root) => [...root.querySelectorAll('[data-call]')];
const summary = (root) => calls(root).map((call) => `${call.dataset.call} ${call.dataset.state}`).join();

// Somebody chose a call or began to type: the form stays as it is.
const isInUse = () => main.querySelector('input:checked') !== null
  || [...main.querySelectorAll('input[type=password]')].some((field) => field.value !== '');

function say(text) {
  const note = document.getElementById('live');
  if (note !== null && note.textContent !== text) note.textContent = text;
}

// Looks once. Returns whether it is of use to look again.
async function look() {
  const response = await fetch(location.pathname, { cache: 'no-store', redirect: 'error' });
  if (response.status === 401) {
    say('You are no longer signed in. Reload the page.');
    return false;
  }
  if (!response.ok) return true;
  const page = new DOMParser().parseFromString(await response.text(), 'text/html');
  const fresh = page.querySelector('main');
  if (fresh === null || summary(fresh) === summary(main)) return true;
  const count = calls(fresh).length;
  document.title = count > 0 ? `(${count}) ${title}` : title;
  if (isInUse()) {
    say('The calls have changed. Reload the page to see them.');
  } else {
    main.replaceChildren(...document.importNode(fresh, true).childNodes);
    say('The calls have changed. This page is up to date.');
  }
  return true;
}

async function watch() {
  say('New calls appear here.');
  for (let goesOn = true; goesOn;) {
    await new Promise((wake) => setTimeout(wake, PAUSE));
    if (!document.hidden) goesOn = await look().catch(() => true);
  }
}

watch();
