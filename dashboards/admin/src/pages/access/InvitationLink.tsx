import type { Invitation } from "../../api/access";
import { SecretOnce } from "../../components/SecretOnce";
import { moment } from "../../lib/format";

/** The link with which a user chooses their password. */
export function InvitationLink({ invitation, onClose }: { invitation: Invitation; onClose: () => void }) {
  const { user, url, expires_at } = invitation;
  return (
    <SecretOnce title={`Link for ${user.name}`} parts={[{ label: "Link", text: url, lines: 2 }]} onClose={onClose}>
      Give it to {user.name} in private: whoever opens it first chooses the password, and is {user.name} from then on.
      Good once, until {moment(expires_at)}. If it is lost, make a new one; this one then ends.
    </SecretOnce>
  );
}
