const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/**
 * How long to wait before the next attempt, in ms. It doubles up to half a minute and never gives up; between half and all of it is
 * taken at random, so that the clients of a server that restarts do not come back together.
 *
 * @param attempt 0 for the first attempt after a loss
 * @param random at least 0, below 1
 */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling * (0.5 + random / 2));
}
