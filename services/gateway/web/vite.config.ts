import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const out = process.env.CLM_WEB_OUT ?? "../../../build/web";

/** Beside each file that shrinks, the same compressed: the gateway serves it as it is. */
function compressed(): Plugin {
  const walk = (dir: string): string[] =>
    readdirSync(dir).flatMap((name) => {
      const path = join(dir, name);
      return statSync(path).isDirectory() ? walk(path) : [path];
    });
  return {
    name: "compressed",
    apply: "build",
    closeBundle() {
      if (!existsSync(out)) return; // the build failed, and has said why
      for (const path of walk(out)) {
        const plain = readFileSync(path);
        const small = gzipSync(plain, { level: 9 });
        if (small.length < plain.length * 0.9) writeFileSync(`${path}.gz`, small);
      }
    },
  };
}

export default defineConfig({
  esbuild: { jsx: "automatic" },
  plugins: [compressed()],
  build: {
    outDir: out,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the Content-Security-Policy has no data: but for images of the style sheet
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    chunkSizeWarningLimit: 700,
    rollupOptions: {
      onwarn(warning, warn) {
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning); // "use client": nothing to us
      },
    },
  },
});
