// A public linter over the served document: node lint.mjs FILE. Prints each problem; fails on errors.
import { createConfig, lint } from "@redocly/openapi-core";
const config = await createConfig({ extends: ["recommended"] });
const problems = await lint({ ref: process.argv[2], config });
for (const p of problems) console.log(`${p.severity} ${p.ruleId} ${p.location[0].pointer}: ${p.message}`);
process.exit(problems.some((p) => p.severity === "error") ? 1 : 0);
