import assert from "node:assert/strict";
import { test } from "node:test";
import { greet } from "../src/greeting.js";

test("a person is greeted by name", () => {
  assert.match(greet("Ada"), /^\S.*, Ada!$/);
});

test("spaces round a name are left out", () => {
  assert.equal(greet("  Ada "), greet("Ada"));
});

test("nobody in particular is the world", () => {
  assert.match(greet(), /, world!$/);
  assert.equal(greet("   "), greet());
});
