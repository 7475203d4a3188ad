// Numbers, sizes and times as text, the order of names, and the server's clock.

/** A whole number with separators: "10,000". */
const count = (number) => number.toLocaleString("en");
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A rate per second: "0", "<0.1", "3.4", "120". */
function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "<0.1";
  if (perSecond < 9.95) return perSecond.toFixed(1);
  return count(Math.round(perSecond));
}

/** A share of a whole: "0.4%". */
function percent(part, whole) {
  if (part === 0 || whole === 0) return "0%";
  const share = (100 * part) / whole;
  if (share < 0.1) return "<0.1%";
  // Not rounded up to 100%, which would mean all of it.
  if (share > 99.9 && part < whole) return ">99.9%";
  return share < 9.95 ? `${share.toFixed(1)}%` : `${Math.round(share)}%`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 || number >= 100 || Number.isInteger(number) ? Math.round(number) : number.toFixed(1)} ${UNITS[unit]}`;
}

/** A latency with two or three digits: "230 µs", "1.2 ms", "3.4 s". */
function latencyText(microseconds) {
  if (microseconds < 999.5) return `${Math.round(microseconds)} µs`;
  const milliseconds = microseconds / 1000;
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59950) return `${(milliseconds / 1000).toFixed(1)} s`;
  return duration(milliseconds);
}

const MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** A duration, rounded down: "12 s", "4 min", "3 h 20 min", "5 d". */
function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < MINUTE) return `${seconds} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) {
    const minutes = Math.floor((seconds % HOUR) / MINUTE);
    return `${Math.floor(seconds / HOUR)} h` + (minutes ? ` ${minutes} min` : "");
  }
  return `${count(Math.floor(seconds / DAY))} d`;
}

/** A configured duration, without rounding: "90 s", "5 min". */
function exactDuration(milliseconds) {
  if (milliseconds >= 60000 && milliseconds % 60000 === 0) return `${count(milliseconds / 60000)} min`;
  return milliseconds % 1000 === 0 ? `${count(milliseconds / 1000)} s` : `${count(milliseconds)} ms`;
}

const clockTime = (milliseconds) => new Date(milliseconds).toLocaleTimeString("en-GB");

/** Compares names by the numbers in them, and then exactly. */
const collator = new Intl.Collator("en", { numeric: true });
const compare = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

// The server's clock minus this machine's: ages are computed by the server's.
let clockOffset = 0;

/** Reads the server's clock from a response; a difference below the tolerance counts as none. */
function updateClock(response, toleranceMs = 0) {
  const date = Date.parse(response.headers.get("date") ?? "");
  if (Number.isNaN(date)) return;
  // The header has whole seconds, so half a second is added on average.
  const offset = date + 500 - Date.now();
  clockOffset = Math.abs(offset) < toleranceMs ? 0 : offset;
}

const serverNow = () => Date.now() + clockOffset;
