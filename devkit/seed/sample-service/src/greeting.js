// The words that every greeting starts with.
const GREETING = "Helo";

/**
 * Greets somebody by name, or the world.
 *
 * @param {string} [name]
 * @returns {string}
 */
export function greet(name) {
  const who = name?.trim() || "world";
  return `${GREETING}, ${who}!`;
}
