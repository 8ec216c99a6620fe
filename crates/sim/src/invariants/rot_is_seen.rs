//! A member whose log has rotted does not start, and names the file and the byte.

use types::MemberId;

use crate::world::World;

impl World {
    /// What a member with a rotten log says of it, if it starts or not.
    pub(crate) fn require_rot_seen(&mut self, id: MemberId, refusal: Option<&str>) {
        let Some(path) = self.members.get_mut(&id).and_then(|member| member.rotten_log.take()) else { return };
        let file = path.display().to_string();
        let is_named =
            |why: &str| why.contains(&file) && why.contains("is damaged at byte") || why.contains("injected");
        if !refusal.is_some_and(is_named) {
            self.fail("RotIsSeen", format!("{file} of member {id} is rotten, and it says: {refusal:?}"));
        }
    }
}
