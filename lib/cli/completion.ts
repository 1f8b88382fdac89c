import { Argument, type Command } from 'commander';
import type { Subcommand } from './options.js';
import { subcommand } from './options.js';

const HELP = `
Examples:
  dmabuf completion bash > ~/.local/share/bash-completion/completions/dmabuf
  dmabuf completion zsh > /usr/local/share/zsh/site-functions/_dmabuf
  dmabuf completion fish > ~/.config/fish/completions/dmabuf.fish`;

/** What can be completed after a subcommand. */
interface Completable {
  name: string;
  summary: string;
  options: { flags: string[]; description: string; takesValue: boolean; choices: readonly string[] }[];
  /** The words that its first argument can be. */
  words: readonly string[];
}

function completableOf(name: string, summary: string, command: Command): Completable {
  const options = command
    .createHelp()
    .visibleOptions(command)
    .map((option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined),
      description: option.description,
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    }));
  return { name, summary, options, words: command.registeredArguments[0]?.argChoices ?? [] };
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function bash(commands: readonly Completable[]): string {
  const cases = commands.map(({ name, options, words }) => {
    const values = options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const reply =
          choices.length > 0 ? `compgen -W ${quoted(choices.join(' '))} -- "$word"` : 'compgen -f -- "$word"';
        return `        ${flags.join('|')}) COMPREPLY=($(${reply})); return ;;\n`;
      });
    const flags = options.flatMap((option) => option.flags);
    const lookAtLast = values.length > 0 ? `      case $last in\n${values.join('')}      esac\n` : '';
    return `    ${name})\n${lookAtLast}      words=${quoted([...flags, ...words].join(' '))} ;;\n`;
  });
  return `# bash completion of dmabuf, made by: dmabuf completion bash
_dmabuf() {
  local word=\${COMP_WORDS[COMP_CWORD]} last=\${COMP_WORDS[COMP_CWORD-1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W ${quoted([...commands.map(({ name }) => name), '--help', '--version'].join(' '))} -- "$word"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('')}  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _dmabuf dmabuf
`;
}

function zsh(commands: readonly Completable[]): string {
  const described = (name: string, text: string): string => quoted(`${name.replaceAll(':', '\\:')}:${text}`);
  const cases = commands.map(({ name, options, words }) => {
    const values = options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const add = choices.length > 0 ? `compadd -- ${choices.map(quoted).join(' ')}` : '_files';
        return `        ${flags.join('|')}) ${add}; return ;;\n`;
      });
    const flags = options.flatMap((option) =>
      option.flags.map((flag) => described(flag, option.description)),
    );
    const lookAtLast =
      values.length > 0 ? `      case $words[CURRENT-1] in\n${values.join('')}      esac\n` : '';
    const others = words.length > 0 ? `      compadd -- ${words.map(quoted).join(' ')}\n` : '';
    return `    ${name})\n${lookAtLast}      found=(${flags.join(' ')})\n${others}      ;;\n`;
  });
  return `#compdef dmabuf
# zsh completion of dmabuf, made by: dmabuf completion zsh
_dmabuf() {
  local -a found
  if (( CURRENT == 2 )); then
    found=(${commands.map(({ name, summary }) => described(name, summary)).join(' ')})
    _describe command found
    return
  fi
  case $words[2] in
${cases.join('')}  esac
  _describe option found
  _default
}
if [ "$funcstack[1]" = _dmabuf ]; then _dmabuf "$@"; else compdef _dmabuf dmabuf; fi
`;
}

function fish(commands: readonly Completable[]): string {
  const string = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = ['# fish completion of dmabuf, made by: dmabuf completion fish'];
  for (const { name, summary, options, words } of commands) {
    lines.push(`complete -c dmabuf -f -n __fish_use_subcommand -a ${name} -d ${string(summary)}`);
    const after = `-n '__fish_seen_subcommand_from ${name}'`;
    if (words.length > 0) lines.push(`complete -c dmabuf -f ${after} -a ${string(words.join(' '))}`);
    for (const { flags, description, takesValue, choices } of options) {
      const names = flags.map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const value = choices.length > 0 ? ` -x -a ${string(choices.join(' '))}` : takesValue ? ' -r' : '';
      lines.push(`complete -c dmabuf ${after} ${names.join(' ')}${value} -d ${string(description)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

type Shell = 'bash' | 'zsh' | 'fish';

const shells: Record<Shell, (commands: readonly Completable[]) => string> = { bash, zsh, fish };

/** The completion script of a shell, made from the commands themselves. */
export async function completionScript(shell: Shell, subcommands: readonly Subcommand[]): Promise<string> {
  const commands: Completable[] = [];
  for (const { name, summary, load } of subcommands)
    commands.push(completableOf(name, summary, await load()));
  return shells[shell](commands);
}

/** `dmabuf completion` */
export function completionCommand(subcommands: readonly Subcommand[]): Command {
  return subcommand('completion', 'Prints a script that completes dmabuf on the command line.', HELP)
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(shells)))
    .action(async (shell: Shell) => {
      process.stdout.write(await completionScript(shell, subcommands));
    });
}
