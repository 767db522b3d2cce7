"""Who is on call in a role at an instant, and who will be.

spans             the one answer: who, from when until when, because of what
schedules         roles: fixed people, shifts or a calendar, with overrides above and a fallback below
shifts            what recurs every week or season, and whose turn it is
local_time        a wall clock's times as instants, on the nights it is put forward or back too
overrides         somebody else for a while
calendars         the events of an iCalendar as spans, the people they name, and what does not count
match_names       whom a text names
calendar_source   where a calendar comes from, and what is kept when it does not come
calendar_cache    the last good copy of a calendar on disk
ical_text         iCalendar text as lines within components
ical_zones        time zones as calendars name them
ical_events       one entry, and why it does not count if it does not
ical_parse        all entries of a text -> occurrences
ical_worker       the process in which that happens
config_schedules  the schedules and feeds a configuration gives
"""
