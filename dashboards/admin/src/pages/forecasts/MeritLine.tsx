import type { ForecastQuality } from "../../api/types";
import { Chip } from "../../components/Tag";

/** Whether forecasts of this pool's load have earned the right to act, and why; nothing for latencies, which have none. */
export function MeritLine({ quality: { metric, merit } }: { quality: ForecastQuality }) {
  if (metric !== "offered_rps") return null;
  return (
    <p className="inset small">
      <Chip tone={merit?.may_act ? "ok" : "idle"}>
        {merit?.may_act ? "right to act earned" : "right to act not earned"}
      </Chip>{" "}
      {merit?.explanation ?? "Nothing is kept yet of what planning on forecasts was worth here."}
    </p>
  );
}
