/** A permission; every condition that it has must hold. */
export interface Rule {
  /** The call, by its label. */
  readonly calls: RegExp;
  readonly scripts?: RegExp;
  readonly errnos?: RegExp;
  readonly form?: 'once' | 'from then on';
  /** It is one of so many that the script makes last. */
  readonly last?: number;
  /** The script ends as ever, in the same error too; or ends well, with another result. */
  readonly survives?: true | 'differently';
  /** The result then names the errno, or this. */
  readonly mentions?: true | string;
  /** The error's code and call, with a space between. */
  readonly code?: RegExp;
  readonly why: string;
}
