// What came of a run in which instances died: each failure must have a cause, and the upstream must have been spared.
import { createHash } from 'node:crypto';

// Logs are written a moment after what they tell of.
const SLACK = 100;
// The lease of a dead instance, and the time that a client is held for it.
const LEASE = 75_000 + 25_000;

// Whether this request was on its way through an instance when that was killed: nginx had a connection, and no answer or half of one.
function brokenBy(line, kill) {
  const was = line.tries.some((t) => t.to === kill.to && t.connected && (t.answered === 502 || t.answered < 400));
  return was && line.from <= kill.gone + SLACK && line.end >= kill.at - SLACK;
}

// Gives every failure of `people` a cause, or none: `kill` is the one that it was in flight at, `after` says that an earlier failure of
// the same user is why, `away` that the store was not there.
export function causes(people, site, outages) {
  const seen = new Map(site.seen().map((line) => [line.id, line]));
  const hit = (id) => seen.has(id) && site.kills.find((kill) => brokenBy(seen.get(id), kill));
  const found = [];
  for (const { failures } of people) {
    let last;
    for (const failure of failures) {
      // The request that failed is the last; a client of the older protocol may just have opened its stream of events beside it.
      failure.kill = failure.sent.slice(-2).map(hit).find((kill) => kill && kill.at <= failure.to + SLACK);
      failure.away = outages.some((outage) => failure.to >= outage.at && failure.from <= outage.back + SLACK);
      // What an answer that was lost leads to: the lease of the dead is waited for, and a token or code that is spent is refused.
      const follows = last && failure.from - last.to < LEASE && ['temporarily_unavailable', 'invalid_grant'].includes(failure.why);
      failure.after = !failure.kill && !failure.away && follows;
      if (failure.kill || failure.away || failure.after) last = failure;
      found.push(failure);
    }
  }
  return found;
}

// Whether something without an id, which is what other clients send, was lost with an instance in that time.
export const lostUnnamed = (site, { from, to }) => site.seen().some((line) => !line.id && line.from >= from && line.end <= to && site.kills.some((kill) => brokenBy(line, kill)));

export const without = (failures) => failures.filter((f) => !f.kill && !f.away && !f.after);

// What one kill took from one user, where that was more than one thing: the requests of one user run one after another.
export function twicePerKill(failures) {
  const taken = new Map();
  for (const f of failures) if (f.kill) taken.set(`${f.n} ${f.kill.at}`, [...(taken.get(`${f.n} ${f.kill.at}`) ?? []), f]);
  return [...taken.values()].filter((all) => all.length > 1);
}

export function counted(values) {
  const counts = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return Object.entries(counts).sort().map(([what, count]) => `${count} ${what}`).join(', ') || 'none';
}

// The token endpoint of the upstream: refresh tokens that it had rotated and saw again, and those of them whose successor we had
// committed, because it was presented before, or a client had what was issued with it. `given` are the access tokens clients had.
export function upstream(log, given) {
  const refreshes = log.filter((e) => e.grant === 'refresh_token' && e.presented && e.done).sort((a, b) => a.done - b.done);
  const had = new Set(given.map((token) => createHash('sha256').update(token).digest('base64url').slice(0, 16)));
  const rotated = new Map();
  const presented = new Set();
  const reused = [];
  for (const refresh of refreshes) {
    const before = rotated.get(refresh.presented);
    if (before) reused.push({ ...refresh, committed: presented.has(before.issued) || had.has(before.access) });
    if (refresh.status === 200) rotated.set(refresh.presented, refresh);
    presented.add(refresh.presented);
  }
  const issued = new Set(log.map((e) => e.access));
  return { strange: [...had].filter((token) => !issued.has(token)), asked: refreshes.length, rotated: rotated.size, reused, committed: reused.filter((r) => r.committed) };
}
