// The program of Next.js: what a request makes of the package.

import { use } from './use.mjs';

export const dynamic = 'force-dynamic';

export async function GET() {
  try {
    return new Response(`used: ${JSON.stringify(await use())}\n`);
  } catch ({ code, message }) {
    return new Response(`refused: ${JSON.stringify({ code, message })}\n`);
  }
}
