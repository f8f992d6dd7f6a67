import { useSyncExternalStore } from "react";

/** One timer a period for all who watch it, so that a page of relative times costs one wake-up. */
class Ticker {
  private readonly listeners = new Set<() => void>();
  private timer: ReturnType<typeof setInterval> | undefined;
  private now = Date.now();

  constructor(private readonly periodMs: number) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.timer === undefined) {
      this.now = Date.now();
      this.timer = setInterval(() => {
        this.now = Date.now();
        for (const each of this.listeners) each();
      }, this.periodMs);
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) {
        clearInterval(this.timer);
        this.timer = undefined;
      }
    };
  };

  readonly read = (): number => this.now;
}

const everySecond = new Ticker(1000);
const everyHalfMinute = new Ticker(30_000);

/** The time in ms, taken anew every second while `running`. */
export function useSeconds(running: boolean): number {
  return useSyncExternalStore(running ? everySecond.subscribe : nothing, everySecond.read);
}

/** The time in ms, taken anew every half minute. */
export function useMinutes(): number {
  return useSyncExternalStore(everyHalfMinute.subscribe, everyHalfMinute.read);
}

function nothing(): () => void {
  return () => undefined;
}
