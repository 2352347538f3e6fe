import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import { Problem } from "./problem";
import type { KnobValue, WhatIf } from "./types";

/** What is left out is as it is: knobs in force, load as planned for. */
export interface Question {
  settings: Record<string, KnobValue>;
  offered_rps?: number;
  prompt_tokens?: number;
  generation_tokens?: number;
}

/** The settings in force beside those asked about. The last answer stays until the next is there. */
export const useWhatIf = (poolId: string, question: Question | null) =>
  useQuery({
    queryKey: keys.whatIf(poolId, question),
    queryFn: ({ signal }): Promise<WhatIf> =>
      body(
        api.POST("/api/v1/pools/{pool_id}/what-if", {
          params: { path: { pool_id: poolId } },
          body: { settings: {}, ...question },
          signal,
        }),
      ),
    enabled: poolId !== "" && question !== null,
    placeholderData: keepPreviousData,
    retry: (failures, error) => failures < 2 && (!(error instanceof Problem) || error.status === 0),
  });
